"""General-10: ten tasks, 1191 classes (SoftCPT)."""

from datasets import classnames, readers
from datasets.known.remote import COOP, RemoteFile, coop_split, same_names
from datasets.known.row import Row, published_splits

_CARS = "https://ai.stanford.edu/~jkrause"


def _row(name: str, *others, coop: str = "", files: tuple[RemoteFile, ...], **more) -> Row:
    """A row with CoOp's sets on the hub and, if it has one, CoOp's split file (`coop`: its id on Google Drive)."""
    if coop:
        files, more["split_files"] = (*files, coop_split(name, coop)), published_splits(name)
    return Row(name, *others, files=files, hub=COOP, **more)


ROWS = (
    _row(
        "Caltech101",
        "caltech-101",
        "101_ObjectCategories",
        100,
        readers.class_folders,
        "per-class",
        "objects image classification",
        "object",
        metric="mean_acc",
        skip=("BACKGROUND_Google", "Faces_easy"),
        rename=classnames.CALTECH101,
        published_images=8_242,
        source="https://data.caltech.edu/records/mzrjq-6wc02 (caltech-101.zip, in it 101_ObjectCategories.tar.gz)",
        coop="1hyarUivQE36mY6jSomru6Fjd-JzwcCzN",
        files=(
            RemoteFile(
                "caltech-101.zip",
                (("caltech-101/101_ObjectCategories.tar.gz/101_ObjectCategories", "101_ObjectCategories"),),
                ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
                checksum="md5:3138e1922a9193bfa496528edbbc45d0",
                size=137,
                unpacked=450,
            ),
        ),
    ),
    _row(
        "DescribableTextures",
        "dtd",
        "images",
        47,
        readers.class_folders,
        "per-class",
        "textures image classification",
        "texture",
        "{} texture.",
        published_images=5_640,
        source="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        coop="1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
        files=(
            RemoteFile(
                "dtd-r1.0.1.tar.gz",
                (("dtd/images", "images"),),
                ("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
                checksum="md5:fff73e5086ae6bdbea199a49dfb8a4c1",
                size=625,
            ),
        ),
    ),
    _row(
        "EuroSAT",
        "eurosat",
        "2750",
        10,
        readers.class_folders,
        "per-class",
        "satellite land use image classification",
        "satellite land use",
        "a centered satellite photo of {}.",
        rename=classnames.EUROSAT,
        published_images=27_000,
        source="http://madm.dfki.de/files/sentinel/EuroSAT.zip",
        coop="1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
        files=(
            RemoteFile(
                "EuroSAT.zip",
                (("2750", "2750"),),
                (
                    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
                    "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                    "http://madm.dfki.de/files/sentinel/EuroSAT.zip",
                ),
                checksum="md5:c8fa014336c82ac7804f0398fcb19387",
                size=94,
                unpacked=200,
            ),
        ),
    ),
    _row(
        "FGVCAircraft",
        "fgvc_aircraft",
        "images",
        100,
        readers.fgvc_aircraft,
        "official",
        "aircraft models image classification",
        "aircraft model",
        "a photo of a {}, a type of aircraft.",
        "mean_acc",
        needs=("variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt"),
        other_folders=("fgvc-aircraft-2013b", "fgvc"),
        published_images=10_000,
        source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz "
        "(its folder data/, renamed)",
        files=(
            RemoteFile(
                "fgvc-aircraft-2013b.tar.gz",
                same_names(
                    "images",
                    "variants.txt",
                    "images_variant_train.txt",
                    "images_variant_val.txt",
                    "images_variant_test.txt",
                    within="fgvc-aircraft-2013b/data",
                ),
                ("https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
                size=2755,
            ),
        ),
    ),
    _row(
        "Food101",
        "food-101",
        "images",
        101,
        readers.class_folders,
        "per-class",
        "food dishes image classification",
        "food dish",
        "a photo of {}, a type of food.",
        other_folders=("food101",),
        published_images=101_000,
        source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        coop="1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl",
        files=(
            RemoteFile(
                "food-101.tar.gz",
                (("food-101/images", "images"),),
                ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
                checksum="md5:85eeb15f3717b99a5da872d97d918f87",
                size=4996,
                unpacked=5200,
            ),
        ),
    ),
    _row(
        "OxfordFlowers",
        "oxford_flowers",
        "jpg",
        102,
        readers.oxford_flowers,
        "per-class",
        "flower species image classification",
        "flower species",
        "a photo of a {}, a type of flower.",
        "mean_acc",
        needs=("imagelabels.mat", "cat_to_name.json"),
        other_folders=("flowers-102", "flowers102", "102flowers"),
        published_images=8_189,
        source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (102flowers.tgz, imagelabels.mat); "
        "cat_to_name.json: Google Drive 1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0",
        coop="1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
        files=(
            RemoteFile(
                "102flowers.tgz",
                (("jpg", "jpg"),),
                ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",),
                checksum="md5:52808999861908f626f3c1f4e79d11fa",
                size=345,
                unpacked=370,
            ),
            RemoteFile(
                "imagelabels.mat",
                urls=("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/imagelabels.mat",),
                checksum="md5:e0620be6f572b9609742df49c70aed4d",
                size=1,
            ),
            RemoteFile("cat_to_name.json", drive="1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0", size=1),
        ),
    ),
    _row(
        "OxfordPets",
        "oxford_pets",
        "images",
        37,
        readers.oxford_pets,
        "official-test",
        "cat and dog breeds image classification",
        "cat and dog breed",
        "a photo of a {}, a type of pet.",
        "mean_acc",
        needs=("annotations/trainval.txt", "annotations/test.txt"),
        other_folders=("oxford-iiit-pet", "oxford-iiit-pets", "pets"),
        published_images=7_349,
        source="https://www.robots.ox.ac.uk/~vgg/data/pets/data/ (images.tar.gz, annotations.tar.gz)",
        coop="1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
        files=(
            RemoteFile(
                "images.tar.gz",
                same_names("images"),
                ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",),
                checksum="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
                size=792,
                unpacked=820,
            ),
            RemoteFile(
                "annotations.tar.gz",
                same_names("annotations"),
                ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",),
                checksum="md5:95a8c909bbe2e81eed6a22bccdf3f68f",
                size=19,
                unpacked=60,
            ),
        ),
    ),
    _row(
        "StanfordCars",
        "stanford_cars",
        "",
        196,
        readers.stanford_cars,
        "official-test",
        "car models image classification",
        "car model",
        needs=("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
        image_folders=("cars_train", "cars_test"),
        published_images=16_185,
        source="http://ai.stanford.edu/~jkrause/car196/ (cars_train.tgz, cars_test.tgz, "
        "cars_test_annos_withlabels.mat) and car_devkit.tgz",
        coop="1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT",
        files=(
            RemoteFile("cars_train.tgz", same_names("cars_train"), (f"{_CARS}/car196/cars_train.tgz",), size=980),
            RemoteFile("cars_test.tgz", same_names("cars_test"), (f"{_CARS}/car196/cars_test.tgz",), size=978),
            RemoteFile("car_devkit.tgz", same_names("devkit"), (f"{_CARS}/cars/car_devkit.tgz",), size=1),
            RemoteFile(
                "cars_test_annos_withlabels.mat", urls=(f"{_CARS}/car196/cars_test_annos_withlabels.mat",), size=1
            ),
        ),
    ),
    _row(
        "SUN397",
        "sun397",
        "SUN397",
        397,
        readers.sun397,
        "official-test",
        "scenes and places image classification",
        "scene and place",
        needs=("ClassName.txt", "Training_01.txt", "Testing_01.txt"),
        published_images=39_700,
        source="http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz and download/Partitions.zip",
        coop="1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq",
        files=(
            RemoteFile(
                "SUN397.tar.gz",
                same_names("SUN397"),
                ("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",),
                checksum="md5:8ca2778205c41d23104230ba66911c7a",
                size=39000,
                unpacked=40000,
            ),
            RemoteFile(
                "Partitions.zip",
                same_names("ClassName.txt", "Training_01.txt", "Testing_01.txt"),
                ("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",),
                size=2,
                unpacked=40,
            ),
        ),
    ),
    _row(
        "UCF101",
        "ucf101",
        "UCF-101-midframes",
        101,
        readers.ucf101,
        "official-test",
        "human actions image classification",
        "human action",
        "a photo of a person doing {}.",
        needs=tuple(f"ucfTrainTestlist/{name}.txt" for name in ("classInd", "trainlist01", "testlist01")),
        published_images=13_320,
        source="UCF-101-midframes.zip, Google Drive 10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O",
        coop="1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
        files=(
            RemoteFile(
                "UCF-101-midframes.zip", same_names("UCF-101-midframes"), drive="10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"
            ),
            RemoteFile(
                "UCF101TrainTestSplits-RecognitionTask.zip",
                same_names("ucfTrainTestlist"),
                ("https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",),
                size=1,
            ),
        ),
    ),
)
