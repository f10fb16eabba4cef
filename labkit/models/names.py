"""Names of the default model and of its stand-ins."""

REAL_MODEL = "EleutherAI/pythia-70m"
STAND_IN_MODEL = "mini-pythia"
STAND_IN_SIZES = ("mini-pythia-500k", "mini-pythia-2m", "mini-pythia-8m")
STAND_INS = (STAND_IN_MODEL, *STAND_IN_SIZES)
