"""Facts about where the lab runs: hardware, network, paths, versions. It knows no model and no corpus."""
