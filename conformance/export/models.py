"""The networks that export.py knows: what is exported, example inputs, names, axes that vary."""

import dataclasses

import torch


@dataclasses.dataclass
class Described:
    """`model` is exported; `checkpoint` is the module inside it whose state dict people have."""

    model: torch.nn.Module
    checkpoint: torch.nn.Module
    example: tuple
    inputs: list
    outputs: list
    axes: dict


class Results(torch.nn.Module):
    """A transformers model whose result is a plain tuple and whose inputs are in a fixed order."""

    def __init__(self, inner, inputs, outputs):
        super().__init__()
        self.inner, self.names, self.results = inner, inputs, outputs

    def forward(self, *values):
        result = self.inner(**dict(zip(self.names, values)))
        return tuple(result[name] for name in self.results)


def vision(build, size=224):
    def make():
        model = build()
        return Described(
            model,
            model,
            (torch.randn(2, 3, size, size),),
            ["input"],
            ["output"],
            {"input": {0: "batch"}, "output": {0: "batch"}},
        )

    return make


def torchvision_model(name):
    def build():
        import torchvision

        return torchvision.models.get_model(name, weights=None)

    return vision(build)


def tokens(build, inputs, outputs, length):
    """A transformer over token ids: every input is [batch, sequence]."""

    def make():
        inner = build()
        ids = torch.randint(0, 1000, (2, length))
        values = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        axes = {name: {0: "batch", 1: "sequence"} for name in inputs}
        example = tuple(values[name] for name in inputs)
        return Described(Results(inner, inputs, outputs), inner, example, inputs, outputs, axes)

    return make


def bert(layers, hidden, heads, vocabulary=30522):
    def build():
        import transformers

        config = transformers.BertConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
        )
        config._attn_implementation = "eager"
        return transformers.BertModel(config)

    return build


def gpt2():
    import transformers

    config = transformers.GPT2Config(use_cache=False)
    config._attn_implementation = "eager"
    return transformers.GPT2LMHeadModel(config)


BERT_INPUTS = ["input_ids", "attention_mask", "token_type_ids"]

MODELS = {
    "resnet18": torchvision_model("resnet18"),
    "resnet50": torchvision_model("resnet50"),
    "mobilenet-v3-large": torchvision_model("mobilenet_v3_large"),
    "efficientnet-b0": torchvision_model("efficientnet_b0"),
    "vit-b-16": torchvision_model("vit_b_16"),
    "minilm-l6": tokens(bert(6, 384, 12), BERT_INPUTS, ["last_hidden_state"], 16),
    "bert-base": tokens(bert(12, 768, 12), BERT_INPUTS, ["last_hidden_state", "pooler_output"], 128),
    "gpt2": tokens(gpt2, ["input_ids", "attention_mask"], ["logits"], 16),
}
