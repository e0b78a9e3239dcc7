"""The parts of `evaluation` and `statistics`: matches, TIDE, optimal LRP, score curves, resampling. No torch."""
