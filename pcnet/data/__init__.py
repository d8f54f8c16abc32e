"""Lightning data modules."""

from pcnet.data.benchmarks import BenchmarkData, CIFAR10Data, FashionMNISTData, MNISTData
from pcnet.data.digit_images import DigitsData, digits, stratified_folds
from pcnet.data.images import Batches, ImageData, Images, Loader, Scaling, ShuffledBatches, Split
from pcnet.data.patches import PatchData, Whitening, cut_patches, photographs
from pcnet.data.sequences import SequenceBatch, SequenceData, SequenceStream

__all__ = [
    "Batches",
    "BenchmarkData",
    "CIFAR10Data",
    "DigitsData",
    "FashionMNISTData",
    "ImageData",
    "Images",
    "Loader",
    "MNISTData",
    "PatchData",
    "Scaling",
    "SequenceBatch",
    "SequenceData",
    "SequenceStream",
    "ShuffledBatches",
    "Split",
    "Whitening",
    "cut_patches",
    "digits",
    "photographs",
    "stratified_folds",
]
