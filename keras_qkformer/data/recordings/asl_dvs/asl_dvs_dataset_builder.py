"""The TFDS builder of ASL-DVS."""

from keras_qkformer.data.recordings.class_folders import ClassFolderBuilder, Place


class Builder(ClassFolderBuilder):
    """ASL-DVS; see README.md beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download ASL-DVS by hand, see https://github.com/PIX2NVS/NVS2Graph, unpack it "
        "and the archives in it, and put the folders a/ to y/ into manual_dir."
    )
    HOMEPAGE = "https://github.com/PIX2NVS/NVS2Graph"
    SENSOR_SIZE = (180, 240)
    CLASS_NAMES = tuple("abcdefghiklmnopqrstuvwxy")
    PLACES = (Place(None, ".", count=100_800),)
    EXTENSION = ".mat"
    TRAIN_SHARE = 0.8
