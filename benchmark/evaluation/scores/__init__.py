"""The computations of the suite's scores, one module per kind. benchmark/metrics.py declares the scores.

Each function `(images, references)` gets the `ImageSet` of the subject and the `References`. It returns a value; or
(value, standard error); or (value, standard error, number of images); or None if the score cannot be computed.
"""
