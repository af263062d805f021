"""Remote-sensing scenes: nine datasets of class folders besides EuroSAT, and the list of datasets in RS-8.

The published RS-8 (8 tasks, 208 classes) does not name its eight datasets; see `RS8`. The names of the folders are the
published names. Folders with other spellings are read too and give the class names, if their number is right.
"""

from __future__ import annotations

from datasets import readers
from datasets.classnames import AREAS, camel_case_in_words, in_words
from datasets.known.remote import RemoteFile, same_names
from datasets.known.row import Row

# Names of the class folders, separated by spaces; a dict where the folder names do not separate words.
AID = """Airport BareLand BaseballField Beach Bridge Center Church Commercial DenseResidential Desert Farmland Forest
Industrial Meadow MediumResidential Mountain Park Parking Playground Pond Port RailwayStation Resort River School
SparseResidential Square Stadium StorageTanks Viaduct"""

RESISC45 = """airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland cloud
commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor industrial_area
intersection island lake meadow medium_residential mobile_home_park mountain overpass palace parking_lot railway
railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg sparse_residential stadium
storage_tank tennis_court terrace thermal_power_station wetland"""

UCMERCED = {
    "agricultural": "agricultural land",
    "airplane": "airplane",
    "baseballdiamond": "baseball diamond",
    "beach": "beach",
    "buildings": "buildings",
    "chaparral": "chaparral",
    "denseresidential": "dense residential area",
    "forest": "forest",
    "freeway": "freeway",
    "golfcourse": "golf course",
    "harbor": "harbor",
    "intersection": "intersection",
    "mediumresidential": "medium residential area",
    "mobilehomepark": "mobile home park",
    "overpass": "overpass",
    "parkinglot": "parking lot",
    "river": "river",
    "runway": "runway",
    "sparseresidential": "sparse residential area",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}

WHURS19 = """Airport Beach Bridge Commercial Desert Farmland Forest Industrial Meadow Mountain Park Parking Pond Port
Residential River Viaduct footballField railwayStation"""

RSSCN7 = {
    "aGrass": "grassland",
    "bField": "farmland",
    "cIndustry": "industrial and commercial area",
    "dRiverLake": "river or lake",
    "eForest": "forest",
    "fResident": "residential area",
    "gParking": "parking lot",
}

RSICB128 = """airport_runway artificial_grassland avenue bare_land bridge city_avenue city_building city_green_tree
city_road coastline container crossroads dam desert dry_farm fork_road forest grave green_farmland highway hirst
lakeshore mangrove marina mountain mountain_road natural_grassland overpass parkinglot pipeline rail residents river
river_protection_forest sandbeach sapling sea shrubwood snow_mountain sparse_forest storage_room stream tower town
turning_circle"""

RSICB256 = """airplane airport_runway artificial_grassland avenue bare_land bridge city_building coastline container
crossroads dam desert dry_farm forest green_farmland highway hirst lakeshore mangrove marina mountain parkinglot
pipeline residents river river_protection_forest sandbeach sapling sea shrubwood snow_mountain sparse_forest
storage_room stream town"""

OPTIMAL31 = """airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland
commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor industrial_area
intersection island lake meadow medium_residential mobile_home_park mountain overpass parking_lot railway
rectangular_farmland roundabout runway"""

PATTERNNET = """airplane baseball_field basketball_court beach bridge cemetery chaparral christmas_tree_farm closed_road
coastal_mansion crosswalk dense_residential ferry_terminal football_field forest freeway golf_course harbor intersection
mobile_home_park nursing_home oil_gas_field oil_well overpass parking_lot parking_space railway river runway
runway_marking shipping_yard solar_panel sparse_residential storage_tank swimming_pool tennis_court transformer_station
wastewater_treatment_plant"""

# RSI-CB's own words, which are hard to read in a prompt: a hirst is a bank of sand.
_RSICB = {
    "container": "shipping containers",
    "hirst": "sandbank",
    "parkinglot": "parking lot",
    "residents": "residential area",
    "sandbeach": "sandy beach",
}


def _names(folders: str, changed: dict[str, str] | None = None) -> dict[str, str]:
    """{class folder: class name}: words without underscores and capitals, `AREAS`, and the names in `changed`."""
    found = {name: camel_case_in_words(in_words(name)) for name in folders.split()}
    return {name: (changed or {}).get(name) or AREAS.get(words, words) for name, words in found.items()}


def _row(name: str, images: str, names: dict[str, str], task_name: str, subject: str, source: str, **other) -> Row:
    folder, _, images = images.partition("/")
    other = {"read": readers.class_folders, "template": "an aerial photo of {}.", **other}
    return Row(
        name,
        folder,
        images,
        len(names),
        rule="per-class",
        task_name=f"{task_name} image classification",
        subject=subject,
        rename=names,
        source=source,
        **other,
    )


ROWS = (
    _row(
        "AID",
        "aid/AID",
        _names(AID),
        "aerial scenes",
        "aerial scene",
        "https://captain-whu.github.io/AID/ (AID.zip)",
        published_images=10_000,
        files=(RemoteFile("AID.zip", (("AID", "AID"),), page="https://captain-whu.github.io/AID/", size=2600),),
    ),
    _row(
        "RESISC45",
        "resisc45/NWPU-RESISC45",
        _names(RESISC45),
        "remote sensing scenes",
        "remote sensing scene",
        "https://gcheng-nwpu.github.io/ (NWPU-RESISC45.rar)",
        published_images=31_500,
        download_size="400 MB",
    ),
    _row(
        "UCMerced",
        "ucmerced/UCMerced_LandUse/Images",
        UCMERCED,
        "urban land use",
        "urban land use",
        "http://weegee.vision.ucmerced.edu/datasets/landuse.html (UCMerced_LandUse.zip)",
        published_images=2_100,
        files=(
            RemoteFile(
                "UCMerced_LandUse.zip",
                same_names("UCMerced_LandUse"),
                ("http://weegee.vision.ucmerced.edu/datasets/UCMerced_LandUse.zip",),
                size=332,
                unpacked=440,
            ),
        ),
    ),
    _row(
        "WHURS19",
        "whu_rs19/WHU-RS19",
        _names(WHURS19),
        "high resolution satellite scenes",
        "high resolution satellite scene",
        "https://captain-whu.github.io/BED4RS/ (WHU-RS19.zip)",
        published_images=1_005,
        template="a satellite photo of {}.",
        files=(
            RemoteFile(
                "WHU-RS19.zip", (("WHU-RS19", "WHU-RS19"),), page="https://captain-whu.github.io/BED4RS/", size=105
            ),
        ),
    ),
    _row(
        "RSSCN7",
        "rsscn7/RSSCN7",
        RSSCN7,
        "typical land cover",
        "land cover",
        "https://github.com/palewithout/RSSCN7 (its folder, renamed RSSCN7)",
        published_images=2_800,
        files=(
            RemoteFile(
                "RSSCN7-master.zip",
                tuple((folder, f"RSSCN7/{folder}") for folder in RSSCN7),
                ("https://github.com/palewithout/RSSCN7/archive/HEAD.zip",),
                page="https://github.com/palewithout/RSSCN7",
                size=350,
            ),
        ),
    ),
    _row(
        "RSICB128",
        "rsicb128/RSI-CB128",
        _names(RSICB128, _RSICB),
        "satellite land objects",
        "satellite land object",
        "https://github.com/lehaifeng/RSI-CB (RSI-CB128.rar)",
        published_images=36_707,
        read=readers.nested_class_folders,
        template="a satellite photo of {}.",
    ),
    _row(
        "RSICB256",
        "rsicb256/RSI-CB256",
        _names(RSICB256, _RSICB),
        "high resolution satellite land objects",
        "high resolution satellite land object",
        "https://github.com/lehaifeng/RSI-CB (RSI-CB256.rar)",
        published_images=24_747,
        read=readers.nested_class_folders,
        template="a satellite photo of {}.",
    ),
    _row(
        "OPTIMAL31",
        "optimal31/Optimal31/Images",
        _names(OPTIMAL31),
        "Google Earth scenes",
        "Google Earth scene",
        "https://crabwq.github.io/ (OPTIMAL-31.zip)",
        published_images=1_860,
    ),
    _row(
        "PatternNet",
        "patternnet/PatternNet/images",
        _names(PATTERNNET),
        "aerial objects and places",
        "aerial object and place",
        "https://sites.google.com/view/zhouwx/dataset (PatternNet.zip)",
        published_images=30_400,
        files=(
            RemoteFile(
                "PatternNet.zip",
                (("PatternNet", "PatternNet"),),
                page="https://sites.google.com/view/zhouwx/dataset",
                size=1400,
            ),
        ),
    ),
)

# Our choice: 30 + 45 + 21 + 19 + 7 + 45 + 31 + 10 = 208 classes, the published total, from the most used datasets of
# the field. Other lists give the same total.
RS8 = ("AID", "RESISC45", "UCMerced", "WHURS19", "RSSCN7", "RSICB128", "OPTIMAL31", "EuroSAT")
