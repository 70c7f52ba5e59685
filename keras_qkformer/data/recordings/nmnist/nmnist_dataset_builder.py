"""The TFDS builder of N-MNIST."""

from keras_qkformer.data.recordings.class_folders import ClassFolderBuilder, Place


class Builder(ClassFolderBuilder):
    """N-MNIST; see README.md beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download Train.zip and Test.zip by hand from "
        "https://www.garrickorchard.com/datasets/n-mnist and put them, or the folders "
        "Train/ and Test/ unpacked from them, into manual_dir."
    )
    HOMEPAGE = "https://www.garrickorchard.com/datasets/n-mnist"
    SENSOR_SIZE = (34, 34)
    CLASS_NAMES = tuple("0123456789")
    PLACES = (
        Place(
            "train", "Train", "Train.zip", "20959b8e626244a1b502305a9e6e2031", 60_000
        ),
        Place("test", "Test", "Test.zip", "69ca8762b2fe404d9b9bad1103e97832", 10_000),
    )
