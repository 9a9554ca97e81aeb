"""The method, on tensors and arrays alone. Read in this order:

    schedules       how the weights, the teacher's decay and the learning rate move, and when pseudo-labels are made anew
    pseudo_labels   what the teacher says of every training image: refresh, thresholds, lookup
    veto            the annotator's marks against it
    targets         what the student learns from in a crop
    losses          what it costs
"""
