"""Datasets: a registry, their sources, and one prepared uint8 store per dataset on disk.

>>> from benchmark.data import dataset_info
>>> dataset_info("mnist").size
28
"""

from .dataset import Dataset, Split, open_dataset
from .info import DATASETS, DatasetInfo, dataset_info

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "Split", "dataset_info", "open_dataset"]
