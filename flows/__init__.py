"""Stories: which stages run, in which order."""
