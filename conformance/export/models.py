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


class Cached(torch.nn.Module):
    """A transformers decoder that takes and gives the keys and values of each layer as plain tensors."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *values):
        import transformers

        ids, mask, *past = values
        cache = transformers.DynamicCache(list(zip(past[::2], past[1::2])))
        result = self.inner(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        present = [tensor for layer in result.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (result.logits, *present)


def cached(build, past=5, length=3):
    """A decoder with its cache: `length` new tokens after `past` others."""

    def make():
        inner = build()
        config = inner.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        shape = (2, heads, past, config.hidden_size // config.num_attention_heads)
        kept = [f"{kind}.{layer}" for layer in range(config.num_hidden_layers) for kind in ("key", "value")]
        inputs = ["input_ids", "attention_mask", *(f"past.{name}" for name in kept)]
        ids = torch.randint(0, 1000, (2, length))
        mask = torch.ones(2, past + length, dtype=torch.int64)
        axes = {name: {0: "batch", 2: "past"} for name in inputs[2:]}
        axes |= {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "total"}}
        example = (ids, mask, *(torch.randn(shape) for _ in kept))
        outputs = ["logits", *(f"present.{name}" for name in kept)]
        return Described(Cached(inner), inner, example, inputs, outputs, axes)

    return make


def attending(model, attention):
    """The model's class with one of transformers' attentions: `eager`, written out, or `sdpa`, PyTorch's own operator."""

    def build():
        import transformers

        make, config = model(transformers)
        config._attn_implementation = attention
        return make(config)

    return build


def bert(layers, hidden, heads, vocabulary=30522, attention="eager"):
    def model(transformers):
        config = transformers.BertConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
        )
        return transformers.BertModel, config

    return attending(model, attention)


def gpt2(layers=12, hidden=768, heads=12, vocabulary=50257, cache=False, attention="eager"):
    def model(transformers):
        config = transformers.GPT2Config(
            vocab_size=vocabulary,
            n_embd=hidden,
            n_layer=layers,
            n_head=heads,
            use_cache=cache,
            bos_token_id=0,
            eos_token_id=0,
        )
        return transformers.GPT2LMHeadModel, config

    return attending(model, attention)


def llama(layers, hidden, heads, shared, vocabulary=1000, cache=False, attention="eager"):
    """Rotary embeddings, RMS norm, SiLU, and `shared` heads of keys and values for the `heads` of queries."""

    def model(transformers):
        config = transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=shared,
            intermediate_size=2 * hidden,
            max_position_embeddings=512,
            use_cache=cache,
        )
        return transformers.LlamaForCausalLM, config

    return attending(model, attention)


def small_vit():
    import torchvision

    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
    )


def decoder(build):
    """Without a cache: ids and mask to logits."""
    return tokens(build, ["input_ids", "attention_mask"], ["logits"], 10)


BERT_INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
BERT_OUTPUTS = ["last_hidden_state", "pooler_output"]

MODELS = {
    "resnet18": torchvision_model("resnet18"),
    "resnet50": torchvision_model("resnet50"),
    "mobilenet-v3-large": torchvision_model("mobilenet_v3_large"),
    "efficientnet-b0": torchvision_model("efficientnet_b0"),
    "vit-b-16": torchvision_model("vit_b_16"),
    "vit-small": vision(small_vit, 32),
    "minilm-l6": tokens(bert(6, 384, 12), BERT_INPUTS, ["last_hidden_state"], 16),
}
for suffix, attention in (("", "eager"), ("-sdpa", "sdpa")):
    base = bert(12, 768, 12, attention=attention)
    small = bert(2, 64, 4, 1000, attention=attention)
    MODELS |= {
        f"bert-base{suffix}": tokens(base, BERT_INPUTS, BERT_OUTPUTS, 128),
        f"bert-small{suffix}": tokens(small, BERT_INPUTS, BERT_OUTPUTS, 10),
        f"gpt2{suffix}": decoder(gpt2(attention=attention)),
        f"gpt2-small{suffix}": decoder(gpt2(2, 64, 4, 1000, attention=attention)),
        f"gpt2-cache{suffix}": cached(gpt2(cache=True, attention=attention)),
        f"gpt2-cache-small{suffix}": cached(gpt2(2, 64, 4, 1000, cache=True, attention=attention)),
        f"llama{suffix}": decoder(llama(2, 256, 8, 2, attention=attention)),
        f"llama-cache{suffix}": cached(llama(2, 256, 8, 2, cache=True, attention=attention)),
    }
