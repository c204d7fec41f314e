# SPDX-License-Identifier: MIT
"""Weights between those of several trainings of one line (Wortsman et al. 2022, "Model soups"; Izmailov et al. 2018).

    cd tools && python -m train.average --vocab DIR --out DIR FOLDER=SHARE [FOLDER=SHARE ...]

A FOLDER is what a training handed over (--out of train_small.py). Writes the same files: weights to go on with and a snapshot.
"""
import argparse
import json
import math
import os
import sys

from safetensors import SafetensorError

from train import deliver, stages


def weighed(text):
    folder, _, share = text.rpartition('=')
    try:
        share = float(share)
    except ValueError:
        share = math.nan
    if not folder or not 0 < share <= 1:
        raise argparse.ArgumentTypeError('"%s" is not FOLDER=SHARE, with a share above 0, at most 1' % text)
    return folder, share


def average(folders):
    """[(folder, share)] -> tensors, names of the stages that the first has finished. Integers are the first's."""
    state, finished = deliver.read_resume(folders[0][0])
    mean = {k: v.float() * folders[0][1] if v.is_floating_point() else v for k, v in state.items()}
    for folder, share in folders[1:]:
        other = deliver.read_resume(folder)[0]
        if {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError('%s and %s hold tensors of other names or shapes' % (folders[0][0], folder))
        for k, v in other.items():
            if v.is_floating_point():
                mean[k] += share * v.float()
    return mean, finished


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    p.add_argument('folders', nargs='+', type=weighed, metavar='FOLDER=SHARE')
    p.add_argument('--out', required=True, metavar='DIR')
    p.add_argument('--vocab', required=True, metavar='DIR')
    p.add_argument('--recipe', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), 'two_cores.json'), metavar='FILE',
                   help='says the sizes (default two_cores.json)')
    o = p.parse_args()
    if abs(sum(share for _, share in o.folders) - 1) > 1e-6:
        p.error('the shares sum to %g, not 1' % sum(share for _, share in o.folders))
    with open(o.recipe, encoding='utf-8') as f:
        net = stages.build(json.load(f), o.vocab)
    try:
        state, finished = average(o.folders)
        if deliver.load_into(net, state) != len(net.state_dict()):
            raise ValueError('%s lacks weights of the model that %s describes' % (o.folders[0][0], o.recipe))
    except (OSError, KeyError, ValueError, SafetensorError) as e:
        sys.exit('average: %s' % e)
    deliver.Delivery(o.out, o.vocab).hand_over(net, finished, (0, 0.0))


if __name__ == '__main__':
    main()
