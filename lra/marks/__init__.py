"""From records to marks: tables of numbers, and how sure they are. Neither torch nor the data are needed.

runs       a row a record
cells      a row a model on an exam
abilities  the same of exams that ask for one ability: what is learnt, and when
capacity   how many, how far: where answers by octave of difficulty are no longer good
twins      the score at other lengths than the trained one
said       those cells as people read them
means      averages over exams
exams      what tables know of an exam
about      what the files of models say of them
query      what is chosen to be shown
stats      intervals, tests, ranks (with sources)
skill      the score above the floor
compare    two models on the same test items
ranks      which models of a column can be told apart
race       what is learnt per minute
predict    do abilities predict?
front      which models are beaten by no other in all that counts
"""
