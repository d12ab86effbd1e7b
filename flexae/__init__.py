"""FlexAE and FlexAE-SR, the models that the UAI 2021 paper proposes. They use the same contract as every baseline."""
