"""Datasets: their declarations, their sources, and one prepared store per dataset on disk.

>>> from benchmark.data import dataset_info
>>> dataset_info("mnist").size
28
"""

from .dataset import Dataset, Split, open_dataset
from .declaration import DatasetInfo, LatentModes
from .info import DATASETS, dataset_info
from .loaded import Columns

__all__ = ["DATASETS", "Columns", "Dataset", "DatasetInfo", "LatentModes", "Split", "dataset_info", "open_dataset"]
