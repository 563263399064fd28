"""The study: arms x seeds x regimes. ``arms`` says what is compared, ``chains`` runs it, ``results`` judges it,
``pages`` writes it down."""
