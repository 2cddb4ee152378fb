"""The recipe of the same size that hurts least, with proof: the part that sees no model.

A *damage table* says what every choice for every unit of a model does to every language. Out of it
a mixed-integer program finds the plan under a budget of bytes; other plans of the same bytes are
what it must beat, on sentences that the search has never seen.

==================  ================================================================================
``records``         units, choices with their true bytes, the damage table
``tables``          a table written, read, resampled, with its labels permuted
``sizes``           what a choice takes in bytes; what a budget means in bytes
``toolchains``      what a target can load: schemes by kind of unit, and units that it fuses
``problem``         table and budget as one problem; what a plan does, and what the uniform one does
``objectives``      worst quarter, worst, mean, reference
``program``         the mixed-integer program, solved by HiGHS and held against the true rows
``solve``           best plan, ten best plans, frontier over budgets, what could be gained at all
``calibration``     whether a table may be trusted; the ten best measured; swaps on true damage
``recipe``          ``recipe.toml``, sealed
``split``           sentences that are searched on and sentences that confirm
``comparators``     the other plans of the same bytes
``nulls``           random plans, the placebo, how often a unit gets the same bits
``proof``           gains, harm, gap, and the verdict against each comparator
==================  ================================================================================

Nothing here imports torch or asks a model: what a plan did comes in as arrays.
"""
