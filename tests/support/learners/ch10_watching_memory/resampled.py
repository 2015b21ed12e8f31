"""Answers to `resampled`."""

import torch
from support.learners.collect import right, wrong


@wrong("resampled", "It averages the files' means, so that a file of ten bytes")
def mean_of_file_means(sums, counts, picks):
    return (sums / counts)[picks].mean(1)


@wrong("resampled", "It divides by the bytes of all files")
def all_counts(sums, counts, picks):
    return sums[picks].sum(1) / counts.sum()


@wrong("resampled", "It divides by the number of files picked")
def per_file(sums, counts, picks):
    return sums[picks].mean(1)


@wrong("resampled", "It divides by the bytes of all files. Each row of `picks`")
def over_all_bytes(sums, counts, picks):
    return sums[picks].sum(1) / counts.sum()


@wrong("resampled", "A file that was drawn twice counts once here. It has to")
def each_file_once(sums, counts, picks):
    return torch.stack([sums[row.unique()].sum() / counts[row.unique()].sum() for row in picks])


@wrong("resampled", "The result is 1 divided by what is asked for.")
def bytes_over_sums(sums, counts, picks):
    return counts[picks].sum(1) / sums[picks].sum(1)


@wrong("resampled", "It comes out as if 0 stood where 1 belongs, at each place.")
def down_the_columns(sums, counts, picks):
    return sums[picks].sum(0) / counts[picks].sum(0)


@wrong("resampled", "It divides by the bytes of all files. Each row of `picks` has")
def counts_as_they_are(sums, counts, picks):
    return sums[picks].sum(1) / counts.sum()


@wrong("resampled", "It comes out as if `mean` stood where `sum` belongs.")
def means_for_sums(sums, counts, picks):
    return sums[picks].mean(1) / counts[picks].sum(1)


@wrong("resampled", "It comes out as if `picks[:1]` stood where `picks` belongs.")
def picks_of_sums_only(sums, counts, picks):
    return sums[picks].sum(1) / counts[picks[0]].sum()


@wrong("resampled", "The means of the files are added up. Add up sums and bytes")
def sum_of_ratios(sums, counts, picks):
    return (sums / counts)[picks].sum(1)


@wrong("resampled", "It takes the median of the files. A mean over all bytes is")
def median_of_files(sums, counts, picks):
    return (sums[picks] / counts[picks]).median(dim=1).values


@right("resampled")
def resampled_by_loops(sums, counts, picks):
    return [float(sums[row].sum() / counts[row].sum()) for row in picks]


@right("resampled")
def resampled_by_numpy(sums, counts, picks):
    sums, counts, picks = sums.numpy(), counts.numpy(), picks.numpy()
    return sums[picks].sum(1) / counts[picks].sum(1)


@right("resampled")
def resampled_by_bincount(sums, counts, picks):
    times = torch.stack([torch.bincount(row, minlength=len(sums)) for row in picks]).double()
    return times @ sums.double() / (times @ counts.double())
