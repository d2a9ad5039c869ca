"""zoo.py FOLDER NAME [--fresh]: a small network of a real architecture, exported in four ways, with what is needed to hold a refit to it.

Writes into FOLDER: EXPORTER.onnx for every way in which PyTorch exports it, a.safetensors (its state dict), b.safetensors (the same after every float tensor was changed),
inputs.safetensors, expected.safetensors (what the framework makes of them with b), and moves.txt (the tensors of a whose change to
those of b moves the framework's outputs). `zoo.py --list` prints the names. Asks for torch, transformers, onnx, onnxscript and safetensors.
"""

import argparse
import pathlib

import safetensors.torch
import torch
from torch import nn

TEXT = dict(vocab_size=120, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32)
CAUSAL = dict(TEXT, pad_token_id=0, bos_token_id=1, eos_token_id=2)
GPT = dict(vocab_size=120, n_embd=64, n_layer=2, n_head=4, n_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2)
GROUPED = dict(CAUSAL, num_key_value_heads=2)
S2S = dict(vocab_size=120, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
PICTURE = dict(image_size=32, patch_size=8, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
SOUND = dict(vocab_size=30, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, conv_dim=(32, 32), conv_stride=(5, 2),
             conv_kernel=(10, 3), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, num_feat_extract_layers=2)

IDS = dict(
    input_ids=torch.randint(3, 119, (2, 6), generator=torch.Generator().manual_seed(1)),
    attention_mask=torch.ones(2, 6, dtype=torch.long),
)
PAIR = dict(IDS, decoder_input_ids=torch.randint(3, 119, (2, 4), generator=torch.Generator().manual_seed(2)))
PIXELS = dict(pixel_values=torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)))
LARGE = dict(pixel_values=torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
WAVE = dict(input_values=torch.randn(2, 400, generator=torch.Generator().manual_seed(4)))
STEPS = dict(x=torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(5)))
MAPS = dict(x=torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(6)))
ROW = dict(x=torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(7)))

# Architectures of transformers: class, configuration, what it is configured with, inputs.
TRANSFORMERS = {
    "albert": ("AlbertModel", "AlbertConfig", dict(TEXT, embedding_size=32), IDS),
    "bart": ("BartModel", "BartConfig", dict(S2S, d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=32), PAIR),
    "bert": ("BertModel", "BertConfig", TEXT, IDS),
    "bloom": ("BloomForCausalLM", "BloomConfig", dict(vocab_size=120, hidden_size=64, n_layer=2, n_head=4), IDS),
    "clip_vision": ("CLIPVisionModel", "CLIPVisionConfig", PICTURE, PIXELS),
    "convnext": ("ConvNextModel", "ConvNextConfig", dict(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2), PIXELS),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", dict(CAUSAL, num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1, first_k_dense_replace=1, kv_lora_rank=32, q_lora_rank=48, qk_rope_head_dim=16, qk_nope_head_dim=16, v_head_dim=16), IDS),
    "deit": ("DeiTModel", "DeiTConfig", PICTURE, PIXELS),
    "dinov2": ("Dinov2Model", "Dinov2Config", dict(PICTURE, mlp_ratio=2), PIXELS),
    "distilbert": ("DistilBertModel", "DistilBertConfig", dict(vocab_size=120, dim=64, hidden_dim=96, n_layers=2, n_heads=4, max_position_embeddings=32), IDS),
    "electra": ("ElectraModel", "ElectraConfig", dict(TEXT, embedding_size=32), IDS),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", dict(GROUPED, head_dim=16), IDS),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT, IDS),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", CAUSAL, IDS),
    "gpt_oss": ("GptOssForCausalLM", "GptOssConfig", dict(GROUPED, head_dim=16, num_local_experts=4, num_experts_per_tok=2), IDS),
    "hubert": ("HubertModel", "HubertConfig", SOUND, WAVE),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED, IDS),
    "mistral": ("MistralForCausalLM", "MistralConfig", GROUPED, IDS),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", dict(GROUPED, num_local_experts=4, num_experts_per_tok=2), IDS),
    "opt": ("OPTForCausalLM", "OPTConfig", dict(vocab_size=120, hidden_size=64, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32, word_embed_proj_dim=64), IDS),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED, IDS),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", dict(GROUPED, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32), IDS),
    "resnet": ("ResNetModel", "ResNetConfig", dict(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"), PIXELS),
    "roberta": ("RobertaModel", "RobertaConfig", TEXT, IDS),
    "segformer": ("SegformerModel", "SegformerConfig", dict(num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2]), LARGE),
    "swin": ("SwinModel", "SwinConfig", dict(image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 4], window_size=4), LARGE),
    "t5": ("T5Model", "T5Config", dict(S2S, d_model=64, d_kv=16, d_ff=96, num_layers=1, num_heads=4), PAIR),
    "vit": ("ViTModel", "ViTConfig", PICTURE, PIXELS),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SOUND, WAVE),
}


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(24, 32, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(nn.functional.silu(self.norm2(self.conv1(nn.functional.silu(self.norm1(x))))))


def norms():
    return nn.Sequential(nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())


def weight_norm():
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Conv1d(8, 16, 3)), nn.ReLU(), norm(nn.ConvTranspose1d(16, 8, 4, 2)))


# Networks of torch.nn: how they are made, inputs.
NETWORKS = {
    "batch_norm": (norms, MAPS),
    "encoder_layer": (lambda: nn.TransformerEncoderLayer(24, 4, 48, batch_first=True), STEPS),
    "group_norm": (lambda: nn.Sequential(Block(), Block()), MAPS),
    "gru": (lambda: Recurrent(nn.GRU), STEPS),
    "lstm": (lambda: Recurrent(nn.LSTM), STEPS),
    "weight_norm": (weight_norm, ROW),
}


class Floats(nn.Module):
    """A network that takes its inputs in order and gives the first of its results."""

    def __init__(self, model, names, options):
        super().__init__()
        self.m, self.names, self.options = model, names, options

    def forward(self, *values):
        found = self.m(**dict(zip(self.names, values)), **self.options)
        return found if isinstance(found, torch.Tensor) else found.to_tuple()[0]


def make(name):
    if name in NETWORKS:
        build, inputs = NETWORKS[name]
        model = build()
        return model, model, inputs
    import transformers

    cls, config, options, inputs = TRANSFORMERS[name]
    config = getattr(transformers, config)(**options)
    config._attn_implementation = "eager"
    config._experts_implementation = "batched_mm"
    model = getattr(transformers, cls)(config)
    fixed = {"use_cache": False} if "input_ids" in inputs and hasattr(config, "use_cache") else {}
    return model, Floats(model, list(inputs), fixed), inputs


def change(model, seed):
    """Adds noise to every float tensor, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.1)


def stored(model):
    """The state dict as it is stored: what shares memory once, under its first name."""
    seen, tensors = set(), {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in seen:
            seen.add(place)
            tensors[name] = tensor.detach().clone().contiguous()
    return tensors


def export(net, inputs, path, how):
    names = dict(input_names=list(inputs), output_names=["y"])
    values = tuple(inputs.values())
    if how in ("legacy", "preserve"):
        kept = dict(do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE) if how == "preserve" else {}
        torch.onnx.export(net, values, str(path), dynamo=False, opset_version=17, **names, **kept)
    else:
        torch.onnx.export(net, values, str(path), dynamo=True, optimize=how == "dynamo", external_data=False, **names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--fresh", action="store_true", help="as initialised, with its zeros and ones")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join([*TRANSFORMERS, *NETWORKS]))
        return
    torch.manual_seed(0)
    model, net, inputs = make(options.name)
    net.eval()
    if not options.fresh:
        change(model, 1)
    options.folder.mkdir(parents=True, exist_ok=True)
    before = stored(model)
    with torch.no_grad():
        base = net(*inputs.values())
        for how in ("legacy", "preserve", "dynamo", "dynamo_raw"):
            try:
                export(net, inputs, options.folder / f"{how}.onnx", how)
            except Exception as error:
                print(f"{options.name} is not exported by {how}: {error}")
        change(model, 2)
        after = stored(model)
        expected = net(*inputs.values())
        moves = []
        for name, tensor in after.items():
            if tensor.is_floating_point():
                model.load_state_dict({**before, name: tensor}, strict=False)
                # A bias of keys shifts all scores of a query alike, and softmax leaves nothing of that but rounding.
                if (net(*inputs.values()) - base).abs().max() > 1e-5 * base.abs().max():
                    moves.append(name)
    save = lambda tensors, stem: safetensors.torch.save_file(tensors, options.folder / f"{stem}.safetensors")
    save(before, "a"), save(after, "b"), save({"y": expected.contiguous()}, "expected")
    save({name: value.contiguous() for name, value in inputs.items()}, "inputs")
    (options.folder / "moves.txt").write_text("\n".join(moves))


main()
