"""The sample source: a grocery chain's operational database, loaded from The Complete Journey."""
