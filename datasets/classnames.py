"""Class names for prompts, made from the class names of the data."""

from __future__ import annotations

import re
from types import MappingProxyType

CALTECH101 = MappingProxyType(
    {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
)

EUROSAT = MappingProxyType(
    {
        "AnnualCrop": "Annual Crop Land",
        "Forest": "Forest",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "River": "River",
        "SeaLake": "Sea or Lake",
    }
)

PLANT_VILLAGE = MappingProxyType(
    {
        "Apple___Apple_scab": "apple leaf with scab disease",
        "Apple___Black_rot": "apple leaf with black rot disease",
        "Apple___Cedar_apple_rust": "apple leaf with cedar apple rust disease",
        "Apple___healthy": "healthy apple leaf",
        "Background_without_leaves": "background without leaves",
        "Blueberry___healthy": "healthy blueberry leaf",
        "Cherry___Powdery_mildew": "cherry leaf with powdery mildew disease",
        "Cherry___healthy": "healthy cherry leaf",
        "Corn___Cercospora_leaf_spot Gray_leaf_spot": "corn leaf with gray leaf spot disease",
        "Corn___Common_rust": "corn leaf with common rust disease",
        "Corn___Northern_Leaf_Blight": "corn leaf with northern leaf blight disease",
        "Corn___healthy": "healthy corn leaf",
        "Grape___Black_rot": "grape leaf with black rot disease",
        "Grape___Esca_(Black_Measles)": "grape leaf with esca disease",
        "Grape___Leaf_blight_(Isariopsis_Leaf_Spot)": "grape leaf with leaf blight disease",
        "Grape___healthy": "healthy grape leaf",
        "Orange___Haunglongbing_(Citrus_greening)": "orange leaf with citrus greening disease",
        "Peach___Bacterial_spot": "peach leaf with bacterial spot disease",
        "Peach___healthy": "healthy peach leaf",
        "Pepper,_bell___Bacterial_spot": "bell pepper leaf with bacterial spot disease",
        "Pepper,_bell___healthy": "healthy bell pepper leaf",
        "Potato___Early_blight": "potato leaf with early blight disease",
        "Potato___Late_blight": "potato leaf with late blight disease",
        "Potato___healthy": "healthy potato leaf",
        "Raspberry___healthy": "healthy raspberry leaf",
        "Soybean___healthy": "healthy soybean leaf",
        "Squash___Powdery_mildew": "squash leaf with powdery mildew disease",
        "Strawberry___Leaf_scorch": "strawberry leaf with leaf scorch disease",
        "Strawberry___healthy": "healthy strawberry leaf",
        "Tomato___Bacterial_spot": "tomato leaf with bacterial spot disease",
        "Tomato___Early_blight": "tomato leaf with early blight disease",
        "Tomato___Late_blight": "tomato leaf with late blight disease",
        "Tomato___Leaf_Mold": "tomato leaf with leaf mold disease",
        "Tomato___Septoria_leaf_spot": "tomato leaf with septoria leaf spot disease",
        "Tomato___Spider_mites Two-spotted_spider_mite": "tomato leaf with two-spotted spider mite disease",
        "Tomato___Target_Spot": "tomato leaf with target spot disease",
        "Tomato___Tomato_Yellow_Leaf_Curl_Virus": "tomato leaf with yellow leaf curl virus disease",
        "Tomato___Tomato_mosaic_virus": "tomato leaf with mosaic virus disease",
        "Tomato___healthy": "healthy tomato leaf",
    }
)

# Kinds of areas that datasets call by an adjective only.
AREAS = MappingProxyType(
    {
        "commercial": "commercial area",
        "dense residential": "dense residential area",
        "industrial": "industrial area",
        "medium residential": "medium residential area",
        "parking": "parking lot",
        "residential": "residential area",
        "sparse residential": "sparse residential area",
    }
)


def in_words(name: str) -> str:
    """Replace underscores by spaces and join repeated spaces. Applied to every class name."""
    return " ".join(name.replace("_", " ").split())


def split_camel_case(name: str) -> str:
    """ "ApplyEyeMakeup" -> "Apply_Eye_Makeup" (class folders of UCF101's middle frames)."""
    return "_".join(re.findall(r"[A-Z][^A-Z]*", name)) or name


def camel_case_in_words(name: str) -> str:
    """ "BareLand", "footballField" -> "bare land", "football field"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def year_first(name: str) -> str:
    """ "Audi TT RS Coupe 2012" -> "2012 Audi TT RS Coupe"; a name without a year at its end is unchanged."""
    rest, _, year = name.rpartition(" ")
    return f"{year} {rest}" if re.fullmatch(r"\d{4}", year) and rest else name


def scene(path: str) -> str:
    """ "/a/athletic_field/outdoor" -> "outdoor athletic_field": the path of SUN397 without its letter, reversed."""
    return " ".join(reversed(path.strip("/").split("/")[1:]))
