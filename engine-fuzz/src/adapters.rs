//! Adapters over a checkpoint.

use crate::choices::Choices;
use crate::damage::damage;
use crate::{scratch, sources};
use engine_format::{DType, MapSource, Tensor};
use refit::{Lora, LoraSource};

/// Bytes of a configuration.
const MOST: usize = 4096;

/// A LoRA adapter and its configuration, merged into weights of a few shapes.
pub fn lora(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    const NAMES: [&str; 12] = [
        "base_model.model.fc.lora_A.weight",
        "base_model.model.fc.lora_B.weight",
        "base_model.model.fc.lora_magnitude_vector",
        "fc.lora_A.default.weight",
        "fc.lora_B.default.weight",
        "encoder.fc.lora_A.weight",
        "encoder.fc.lora_B.weight",
        "emb.lora_embedding_A",
        "emb.lora_embedding_B",
        "base_model.model.head.modules_to_save.weight",
        "base_model.model.head.weight",
        "fc.weight",
    ];
    let pair = choices.below(3);
    let mut names = vec![NAMES[[0, 3, 5][pair]], NAMES[[1, 4, 6][pair]]];
    (0..choices.below(3)).for_each(|_| names.push(*choices.pick(&NAMES)));
    let adapter = matrices(&names, &mut choices);
    let mut config = config(&mut choices).into_bytes();
    if choices.once_in(8) {
        damage(&mut config, &mut choices, MOST);
    }
    let path = scratch::write(&[
        ("adapter_model.safetensors", &adapter),
        ("adapter_config.json", &config),
    ]);
    let text = match choices.byte() % 4 {
        0 => format!("{}:{}", path.display(), choices.float()),
        1 => format!("{}:0.5", path.display()),
        _ => path.display().to_string(),
    };
    let Ok(adapter) = Lora::parse(&text) else { return };
    let mut base = MapSource::new();
    let dtype = *choices.pick(&[DType::F32, DType::F16, DType::BF16, DType::I8]);
    for (name, shape) in [
        ("fc.weight", vec![3, 4]),
        ("decoder.fc.weight", vec![3, 4]),
        ("emb.weight", vec![5, 3]),
        ("conv.weight", vec![2, 3, 2, 2]),
        ("head.weight", vec![2]),
    ] {
        if !choices.once_in(4) {
            base.insert(name, Tensor::zeros(dtype, &shape));
        }
    }
    let Ok(merged) = LoraSource::new(Box::new(base), vec![adapter]) else { return };
    // Weights are in memory and adapters cost what their file has.
    sources::read_all(&merged, 4096);
}

/// The file of an adapter: half of the time matrices that fit, else anything.
fn matrices(names: &[&str], choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.once_in(2) {
        return sources::safetensors_file(names, choices);
    }
    let rank = choices.below(3);
    let (mut rows, mut data) = (Vec::new(), 0);
    for (i, name) in names.iter().enumerate() {
        let shape = match i {
            0 => [rank, 4],
            1 => [3, rank],
            _ => [1, 3],
        };
        let end = data + shape[0] * shape[1] * 4;
        let [a, b] = shape;
        rows.push(format!(
            "\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{a},{b}],\"data_offsets\":[{data},{end}]}}"
        ));
        data = end;
    }
    let header = format!("{{{}}}", rows.join(","));
    let values = (0..data / 4).flat_map(|_| choices.float().to_le_bytes()).collect();
    [(header.len() as u64).to_le_bytes().to_vec(), header.into_bytes(), values].concat()
}

fn config(choices: &mut Choices<'_>) -> String {
    const FIELDS: [&str; 16] = [
        "\"r\":2",
        "\"r\":0",
        "\"r\":4294967295",
        "\"lora_alpha\":4",
        "\"lora_alpha\":1e39",
        "\"use_rslora\":true",
        "\"use_dora\":true",
        "\"fan_in_fan_out\":true",
        "\"rank_pattern\":{\"fc\":1}",
        "\"rank_pattern\":{\"(\":1}",
        "\"alpha_pattern\":{\"(a|b)*fc{1,1000}{1,1000}\":2}",
        "\"alpha_pattern\":{\"fc\":8,\"fc\":1}",
        "\"init_lora_weights\":\"pissa\"",
        "\"modules_to_save\":[\"head\"]",
        "\"target_modules\":\"all-linear\"",
        "\"bias\":\"all\"",
    ];
    let mut fields = vec!["\"r\":2", "\"lora_alpha\":4"];
    for _ in 0..choices.below(4) {
        let at = choices.below(fields.len());
        match choices.once_in(3) {
            true => fields[at] = *choices.pick(&FIELDS),
            false => fields.push(*choices.pick(&FIELDS)),
        }
    }
    format!("{{{}}}", fields.join(","))
}
