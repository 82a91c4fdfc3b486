"""What keys of a config mean to those who compare runs."""

CHOICES = ("data", "model", "loss")  # config groups whose choice has a column of its own
# Keys that cannot change the result of a run.
NO_EFFECT = (
    *("tracking.", "checkpoint.", "data.num_workers.", "data.download."),
    *("trainer.log_every_steps.", "trainer.figures_every_epochs.", "trainer.profile.", "trainer.prune_against."),
)
# Keys in which two runs may differ and have the same result, on two machines or days.
IGNORED = (*NO_EFFECT, "name.", "device.", "resume.", "resume_strict.")
# Keys that may differ without a note at the top of the report.
EXPECTED = ("seed.", "loss.", "name.", "device.", "resume.", "resume_strict.")
