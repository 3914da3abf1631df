"""The words of retrieval_synth's documents, fixed and literal."""

from __future__ import annotations

VERSION = 1  # of what a seed means: these words and the generator


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SUBJECTS = tuple(
    words(line)
    for line in (
        "anchor captain harbour island lagoon reef sailor voyage",
        "butter cheese honey mustard pepper sugar vinegar walnut",
        "court judge jury lawyer prison sheriff verdict witness",
        "comet eclipse galaxy meteor moon orbit planet telescope",
        "cello choir drum flute guitar opera trumpet violin",
        "barn cattle donkey fence goat orchard plough tractor",
        "blizzard drizzle fog frost hail rainbow thunder typhoon",
        "brick cement chimney ladder marble plaster shingle timber",
    )
)
COMMON = words(
    """a about above after again all almost also always an and any are as at away back be because been before
    being below between both but by came can come could did do does done down each either else even ever every far few
    find first for found from gave get give go going gone good great had half has have he her here him his how however
    i if in indeed into is it its just keep kept knew know known last later least left less let like little long made
    make many may me might mine more most much must my near never new next no none nor not nothing now of off often
    old on once one only or other others our out over own part perhaps put quite rather said same saw say seem seen
    several shall she should since small so some something soon still such take than that the their them then there
    these they thing things think this those though thought three through thus time to today together told too took
    toward two under until up upon us use used very was way we well went were what when where whether which while who
    whole whom whose why will with within without word world would year yet you young your"""
)
SYLLABLES = words(
    """ba bel bri can cor da del dor el fa fen gar gra hol hu il jo kan kel la len lo mar mi mon na nel nor
    o pel per ra rin ro sal sen so ta tor ul va vel vin wes ya yor za zel zo"""
)
LONGEST = max(len(word) for subject in SUBJECTS for word in subject) + 1  # with the space after it
