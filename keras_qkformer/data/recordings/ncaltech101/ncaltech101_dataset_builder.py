"""The TFDS builder of N-Caltech101."""

from keras_qkformer.data.recordings.class_folders import ClassFolderBuilder, Place


class Builder(ClassFolderBuilder):
    """N-Caltech101; see README.md beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download Caltech101.zip by hand from "
        "https://www.garrickorchard.com/datasets/n-caltech101 and put it, or the "
        "folder Caltech101/ unpacked from it, into manual_dir."
    )
    HOMEPAGE = "https://www.garrickorchard.com/datasets/n-caltech101"
    SENSOR_SIZE = (180, 240)
    CLASS_NAMES = (
        *("BACKGROUND_Google", "Faces_easy", "Leopards", "Motorbikes"),
        *("accordion", "airplanes", "anchor", "ant", "barrel", "bass", "beaver"),
        *("binocular", "bonsai", "brain", "brontosaurus", "buddha", "butterfly"),
        *("camera", "cannon", "car_side", "ceiling_fan", "cellphone", "chair"),
        *("chandelier", "cougar_body", "cougar_face", "crab", "crayfish"),
        *("crocodile", "crocodile_head", "cup", "dalmatian", "dollar_bill"),
        *("dolphin", "dragonfly", "electric_guitar", "elephant", "emu"),
        *("euphonium", "ewer", "ferry", "flamingo", "flamingo_head", "garfield"),
        *("gerenuk", "gramophone", "grand_piano", "hawksbill", "headphone"),
        *("hedgehog", "helicopter", "ibis", "inline_skate", "joshua_tree"),
        *("kangaroo", "ketch", "lamp", "laptop", "llama", "lobster", "lotus"),
        *("mandolin", "mayfly", "menorah", "metronome", "minaret", "nautilus"),
        *("octopus", "okapi", "pagoda", "panda", "pigeon", "pizza", "platypus"),
        *("pyramid", "revolver", "rhino", "rooster", "saxophone", "schooner"),
        *("scissors", "scorpion", "sea_horse", "snoopy", "soccer_ball"),
        *("stapler", "starfish", "stegosaurus", "stop_sign", "strawberry"),
        *("sunflower", "tick", "trilobite", "umbrella", "watch", "water_lilly"),
        *("wheelchair", "wild_cat", "windsor_chair", "wrench", "yin_yang"),
    )
    PLACES = (
        Place(None, "Caltech101", "Caltech101.zip", "66201824eabb0239c7ab992480b50ba3"),
    )
