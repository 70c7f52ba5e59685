"""The TFDS builder of DVS-Lip."""

from keras_qkformer.data.recordings.class_folders import ClassFolderBuilder, Place

_MD5 = "2dcb959255122d4cdeb6094ca282494b"


class Builder(ClassFolderBuilder):
    """DVS-Lip; see README.md beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download DVS-Lip.zip by hand, see "
        "https://sites.google.com/view/event-based-lipreading, and put it, or the "
        "folder DVS-Lip/ unpacked from it, into manual_dir."
    )
    HOMEPAGE = "https://sites.google.com/view/event-based-lipreading"
    SENSOR_SIZE = (128, 128)
    CLASS_NAMES = (
        *("accused", "action", "allow", "allowed", "america", "american"),
        *("another", "around", "attacks", "banks", "become", "being", "benefit"),
        *("benefits", "between", "billion", "called", "capital", "challenge"),
        *("change", "chief", "couple", "court", "death", "described"),
        *("difference", "different", "during", "economic", "education"),
        *("election", "england", "evening", "everything", "exactly", "general"),
        *("germany", "giving", "ground", "happen", "happened", "having", "heavy"),
        *("house", "hundreds", "immigration", "judge", "labour", "leaders"),
        *("legal", "little", "london", "majority", "meeting", "military"),
        *("million", "minutes", "missing", "needs", "number", "numbers"),
        *("paying", "perhaps", "point", "potential", "press", "price"),
        *("question", "really", "right", "russia", "russian", "saying"),
        *("security", "several", "should", "significant", "spend", "spent"),
        *("started", "still", "support", "syria", "syrian", "taken", "taking"),
        *("terms", "these", "thing", "think", "times", "tomorrow", "under"),
        *("warning", "water", "welcome", "words", "worst", "years", "young"),
    )
    PLACES = (
        Place("train", "DVS-Lip/train", "DVS-Lip.zip", _MD5),
        Place("test", "DVS-Lip/test", "DVS-Lip.zip", _MD5),
    )
    EXTENSION = ".npy"
