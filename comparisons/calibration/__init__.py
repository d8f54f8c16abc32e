"""Does the verdict on belief geometry err as rarely as it says? Planted answers, and intervals against fresh rows."""
