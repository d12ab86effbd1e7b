"""FlexAE and FlexAE-SR, proposed by the UAI 2021 paper: the same contract as every baseline, no privileges."""
