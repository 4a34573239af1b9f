"""Evaluation: a segmentation scored against the truth, block by block, so that a terabyte is scored like a tile.

    overlap      the one thing that is measured: how many voxels each prediction shares with each truth
    pixels       IoU, Dice, precision, recall of the foreground
    matching     which prediction is which truth: the best of each, or one to one
    objects      precision, recall, Dice, panoptic quality, average precision, SEG, splits and merges
    listing      a row for every object that was found, missed, or is not there
    partition    variation of information, Rand index
    recall       which objects are found, by size or by a column of the truth
    topology     centre lines and Betti numbers, of images that fit in memory
    figures      counts add up, figures are made of counts; means with their interval
    scores       all of it as one document
    rays         where both agree and differ, seen along z; `planes`: how often they differ in each plane
    seams        whether borders of tiles or blocks show in a result

The compiled loop over voxels is `overlap_kernel`. Everything after the table is whole numbers and a few divisions.
"""
