"""Every routing measure once more, as plain loops over lists: slow, obvious, and written apart."""

from __future__ import annotations

import math
from collections import defaultdict


def experts_of(trace, layer, token):
    return [int(expert) for expert in trace.selected_experts[layer, token]]


def probabilities(trace, layer, token):
    logits = [float(value) for value in trace.router_logits[layer, token]]
    top = max(logits)
    parts = [math.exp(value - top) for value in logits]
    return [part / math.fsum(parts) for part in parts]


def best(values, number):
    """Positions of the largest values."""
    return sorted(range(len(values)), key=lambda place: -values[place])[:number]


def entropy(values):
    total = math.fsum(values)
    return -math.fsum(v / total * math.log(v / total) for v in values if v > 0)


def loads(traces, layer, masks=None):
    """expert → tokens"""
    found = defaultdict(int)
    for number, trace in enumerate(traces):
        for token in range(trace.num_tokens):
            if masks is None or masks[number][token]:
                for expert in experts_of(trace, layer, token):
                    found[expert] += 1
    return found


def unevenness(load):
    """name → value, of a list of loads."""
    size, total = len(load), sum(load)
    mean = total / size
    return {
        "load_entropy": entropy(load) / math.log(size),
        "effective_experts": math.exp(entropy(load)),
        "variation": math.sqrt(sum((x - mean) ** 2 for x in load) / size) / mean,
        "gini": sum(abs(x - y) for x in load for y in load) / (2 * size * size * mean),
        "max_violation": max(load) / mean - 1,
    }


def global_loads(traces, layer):
    found = defaultdict(int)
    for trace in traces:
        for token in range(trace.num_tokens):
            values = probabilities(trace, layer, token)
            for expert in best(values, trace.num_experts_per_tok):
                found[expert] += 1
    return found


def imbalance(chosen, batch, devices, experts):
    """Scores of batches of consecutive tokens; chosen is a list of lists of experts."""
    found = []
    for start in range(0, len(chosen) - batch + 1, batch):
        pairs = [0] * devices
        for row in chosen[start : start + batch]:
            for expert in row:
                pairs[expert * devices // experts] += 1
        found.append((max(pairs) - min(pairs)) / batch)
    return found


def decision(trace, layer, token):
    """name → value of one token."""
    values = probabilities(trace, layer, token)
    chosen = experts_of(trace, layer, token)
    size = trace.num_experts // trace.num_groups
    leads, within = [], []
    for group in range(trace.num_groups):
        members = values[group * size : (group + 1) * size]
        first, second = sorted(members, reverse=True)[:2]
        leads.append(first - second)
        within.append(entropy(members) / math.log(size))
    everywhere = best(values, len(chosen))
    mass = sum(values[expert] for expert in chosen)
    return {
        "entropy": entropy(values) / math.log(len(values)),
        "group_entropy": sum(within) / len(within),
        "selected_mass": mass,
        "margin": sum(leads) / len(leads),
        "smallest_margin": min(leads),
        "overlap": len(set(chosen) & set(everywhere)) / len(chosen),
        "mass_lost": sum(values[expert] for expert in everywhere) - mass,
    }


def churn(trace, layer, token):
    now, before = set(experts_of(trace, layer, token)), set(experts_of(trace, layer, token - 1))
    return 1 - len(now & before) / len(now | before)


def pairs(traces, layer):
    """(expert, partner) → tokens that use both."""
    found = defaultdict(int)
    for trace in traces:
        for token in range(trace.num_tokens):
            for expert in experts_of(trace, layer, token):
                for partner in experts_of(trace, layer, token):
                    if expert != partner:
                        found[expert, partner] += 1
    return found


def steps(traces, layer, kind):
    """(expert, next expert) → amount."""
    found = defaultdict(float)
    for trace in traces:
        for token in range(trace.num_tokens):
            here, after = (
                list(
                    zip(
                        experts_of(trace, place, token),
                        trace.routing_weights[place, token],
                        strict=True,
                    )
                )
                for place in (layer, layer + 1)
            )
            if kind == "top1":
                here = [max(here, key=lambda pair: pair[1])]
                after = [max(after, key=lambda pair: pair[1])]
            for expert, weight in here:
                for following, other in after:
                    amount = float(weight) * float(other) if kind == "weighted" else 1.0
                    found[expert, following] += amount
    return found


def divergence_bits(traces, labels, layer):
    shares = []
    for name in sorted(set(labels)):
        mine = [trace for trace, label in zip(traces, labels, strict=True) if label == name]
        load = loads(mine, layer)
        total = sum(load.values())
        shares.append([load[expert] / total for expert in range(traces[0].num_experts)])
    middle = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
    return (entropy(middle) - sum(map(entropy, shares)) / len(shares)) / math.log(2)


def lift(traces, labels, layer, expert, domain):
    """log2 P(e|D) / mean over domains of P(e|D'), with +0.5 pseudocounts."""
    chance = {}
    for name in set(labels):
        mine = [trace for trace, label in zip(traces, labels, strict=True) if label == name]
        tokens = sum(trace.num_tokens for trace in mine)
        chance[name] = (loads(mine, layer)[expert] + 0.5) / (tokens + 1)
    return math.log2(chance[domain] / (sum(chance.values()) / len(chance)))


def vocabulary_raw(traces, layer, expert, minimum):
    """Mean over the expert's tokens of the share of their type that uses the expert."""
    seen, used = defaultdict(int), defaultdict(int)
    for trace in traces:
        for token in range(trace.num_tokens):
            seen[int(trace.token_ids[token])] += 1
            used[int(trace.token_ids[token])] += expert in experts_of(trace, layer, token)
    ratios = []
    for kind, count in seen.items():
        if count >= minimum:
            ratios += [used[kind] / count] * used[kind]
    return sum(ratios) / len(ratios) if ratios else math.nan
