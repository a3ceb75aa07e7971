"""A captioner (CNN + LSTM) and a question answerer, trained here, explained through the same engine (as in the Grad-CAM paper)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradaudit.attribution.explanation import explain
from gradaudit.measurement.batch_rows import region_metrics
from gradaudit.models.classifier import Classifier

COLOURS = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
START = 3


def scenes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Grey 32x32 images with one coloured square in each half; colours (N, 2) of left and right; masks (N, 2, 32, 32)."""
    x = 0.1 * torch.randn(count, 3, 32, 32, generator=generator)
    colours = torch.randint(0, 3, (count, 2), generator=generator)
    masks = torch.zeros(count, 2, 32, 32)
    for n in range(count):
        for half in (0, 1):
            top, left = (
                int(torch.randint(0, limit, (1,), generator=generator)) for limit in (24, 8)
            )
            masks[n, half, top : top + 8, 16 * half + left : 16 * half + left + 8] = 1
            x[n] += masks[n, half] * COLOURS[colours[n, half]][:, None, None] * 2
    return x, colours, masks


class Trunk(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 12, 4, 4), nn.ReLU(), nn.Conv2d(12, 16, 1), nn.ReLU())


class Answerer(nn.Module):
    """Question 0: colour on the left; 1: on the right. The question gates the two halves."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.question, self.answer = Trunk(), nn.Embedding(2, 32), nn.Linear(32, 3)

    def forward(self, picture: Tensor, question: Tensor) -> Tensor:
        halves = functional.adaptive_avg_pool2d(self.trunk(picture), (1, 2)).flatten(1)
        return self.answer(halves * self.question(question))


class Captioner(nn.Module):
    """Says the left colour, then the right one: an LSTM started from the image, fed the word before."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.words, self.start = Trunk(), nn.Embedding(4, 32), nn.Linear(32, 32)
        self.rnn, self.vocabulary = nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 3)

    def forward(self, picture: Tensor, before: Tensor) -> Tensor:
        state = torch.tanh(
            self.start(functional.adaptive_avg_pool2d(self.trunk(picture), (1, 2)).flatten(1))
        )[None]
        states, _ = self.rnn(self.words(before), (state, torch.zeros_like(state)))
        return self.vocabulary(states)


def trained(net: nn.Module, batch, steps: int) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    pictures = scenes(512, generator)
    for _ in range(steps):
        chosen = torch.randint(0, 512, (64,), generator=generator)
        inputs, truth = batch(*(part[chosen] for part in pictures[:2]), generator)
        optimiser.zero_grad()
        functional.cross_entropy(net(*inputs).flatten(0, -2), truth.flatten()).backward()
        optimiser.step()
    return net.eval()


def asked(x, colours, generator):
    question = torch.randint(0, 2, (len(x),), generator=generator)
    return (x, question), colours[torch.arange(len(x)), question]


def told(x, colours, generator):
    return (x, torch.stack([torch.full((len(x),), START), colours[:, 0]], 1)), colours


def shares(found, masks: Tensor) -> Tensor:
    table = region_metrics(found.upsample((32, 32)).clamp_min(0), masks)
    return torch.tensor(table.relevance_mass_accuracy.to_numpy().reshape(len(masks), 2))


@pytest.mark.slow
def test_the_answer_to_a_question_is_explained_where_the_question_points():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = trained(Answerer(), asked, 300)
    x, colours, masks = scenes(40, torch.Generator().manual_seed(1))
    clf = Classifier(net, "trunk")
    halves = torch.zeros(40, 2, 32, 32)
    halves[:, 0, :, :16] = halves[:, 1, :, 16:] = 1
    for side in (0, 1):
        found = explain(clf, (x, torch.full((40,), side)), method="hirescam")
        right = found.outputs.argmax(1) == colours[:, side]
        assert right.float().mean() > 0.95
        assert shares(found, halves)[right, side].mean() > 0.9
        assert (
            shares(found, masks)[right, side].median() > 4 * 64 / 1024
        )  # far above the square's share of the area


@pytest.mark.slow
def test_each_word_of_a_caption_is_explained_by_its_own_object():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = trained(Captioner(), told, 400)
    x, colours, masks = scenes(40, torch.Generator().manual_seed(1))
    clf = Classifier(net, "trunk")
    before = torch.stack([torch.full((40,), START), colours[:, 0]], 1)
    different = colours[:, 0] != colours[:, 1]
    for word in (0, 1):
        found = explain(clf, (x, before), f"token:{word}", "hirescam")
        right = (found.outputs[:, word].argmax(1) == colours[:, word]) & different
        assert (found.outputs[:, word].argmax(1) == colours[:, word]).float().mean() > 0.9
        share = shares(found, masks)[right]
        assert (share[:, word] > share[:, 1 - word]).float().mean() > 0.8
