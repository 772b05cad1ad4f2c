"""The programs: one file each, with what to install, and the cases with their verdicts."""
