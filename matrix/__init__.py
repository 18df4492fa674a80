"""Run each cause of a closed file and each fix on many framework versions."""
