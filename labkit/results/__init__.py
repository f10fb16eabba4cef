"""Results: a row for every evaluated run, the board that keeps them, reports, sweeps, and what notebooks hand on."""
