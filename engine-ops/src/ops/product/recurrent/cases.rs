//! Cases of recurrent layers. Expected values were computed with ONNX Runtime.

use crate::case::{Case, ramp};
use engine_format::{Attr, Tensor};

/// The pattern of [`ramp`] in −0.5..0.5, so that states stay away from saturation.
fn weights(shape: &[usize]) -> Tensor {
    let values: Vec<f32> =
        ramp(shape).as_slice::<f32>().expect("ramp is f32").iter().map(|v| v / 4.0).collect();
    Tensor::from_slice(shape, &values)
}

/// Three steps of two sequences of two features, for two units: X, W and R.
fn small(name: &'static str, dirs: usize, gates: usize) -> Case {
    let product = [dirs, 2 * gates, 2];
    let case = Case::new(name, vec![ramp(&[3, 2, 2]), weights(&product), weights(&product)]);
    case.attr("hidden_size", Attr::Int(2)).attr("direction", direction(dirs))
}

fn direction(dirs: usize) -> Attr {
    Attr::Str(if dirs == 2 { "bidirectional" } else { "forward" }.to_owned())
}

/// With biases, lengths and initial states too.
fn whole(name: &'static str, dirs: usize, gates: usize) -> Case {
    small(name, dirs, gates)
        .input(Some(weights(&[dirs, 4 * gates])))
        .input(Some(Tensor::from_slice(&[2], &[3i32, 2])))
        .input(Some(weights(&[dirs, 2, 2])))
}

/// With an initial cell and peepholes too.
fn whole_lstm(name: &'static str, dirs: usize) -> Case {
    whole(name, dirs, 4).input(Some(weights(&[dirs, 2, 2]))).input(Some(weights(&[dirs, 6])))
}

fn activated(name: &'static str, functions: [&str; 3], alpha: &[f32], beta: &[f32]) -> Case {
    small(name, 1, 4)
        .input(Some(weights(&[1, 16])))
        .attr("activations", Attr::Strs(functions.map(str::to_owned).to_vec()))
        .attr("activation_alpha", Attr::Floats(alpha.to_vec()))
        .attr("activation_beta", Attr::Floats(beta.to_vec()))
}

/// More units than a workgroup has invocations, the batch in front.
fn wide(name: &'static str, gates: usize) -> Case {
    let (batch, seq, input, hidden) = (3, 5, 70, 67);
    let case = Case::new(
        name,
        vec![
            ramp(&[batch, seq, input]),
            weights(&[2, gates * hidden, input]),
            weights(&[2, gates * hidden, hidden]),
        ],
    );
    let case = case.attr("layout", Attr::Int(1)).attr("direction", direction(2));
    let case = case.input(Some(weights(&[2, 2 * gates * hidden])));
    case.input(Some(Tensor::from_slice(&[3], &[5i32, 0, 2])))
        .input(Some(weights(&[batch, 2, hidden])))
}

/// The same in f64: expected values stay as exact as those of f32.
fn doubles(name: &'static str, case: Case) -> Case {
    let wide = |t: Tensor| match t.as_slice::<f32>() {
        Ok(values) => {
            let values: Vec<f64> = values.iter().map(|&v| v.into()).collect();
            Tensor::from_slice(t.shape(), &values)
        }
        Err(_) => t,
    };
    Case {
        name,
        inputs: case.inputs.into_iter().map(|t| t.map(wide)).collect(),
        expected: case.expected.map(|all| all.into_iter().map(wide).collect()),
        ..case
    }
}

/// These cases, and one of them in f64 too.
fn also_doubles(mut cases: Vec<Case>, of: &str, name: &'static str) -> Vec<Case> {
    let case = cases.iter().find(|case| case.name == of).expect("a case of this name");
    cases.push(doubles(name, case.clone()));
    cases
}

/// As one result alone.
fn only_y(case: Case) -> Case {
    Case { outputs: 1, ..case }
}

pub(super) fn lstm() -> Vec<Case> {
    let cases = lstm_in_f32();
    let cases = also_doubles(cases, "everything, both ways", "everything, f64");
    let cases = also_doubles(cases, "threshold", "threshold, f64");
    also_doubles(cases, "coupled gates", "coupled gates, f64")
}

fn lstm_in_f32() -> Vec<Case> {
    let reverse = Attr::Str("reverse".to_owned());
    let mut backwards = whole_lstm("backwards, clipped", 1).attr("clip", Attr::Float(0.5));
    backwards.attrs.retain(|(name, _)| *name != "direction");
    vec![
        small("weights alone", 1, 4).expect(vec![
            Tensor::from_slice(
                &[3, 1, 2, 2],
                &[
                    -0.013_693_329f32,
                    0.079_509_005,
                    -0.059_338_603,
                    -0.117_590_59,
                    0.186_395_75,
                    0.056_561_62,
                    0.021_074_988,
                    -0.010_395_369_5,
                    0.043_203_197,
                    0.102_852_166,
                    -0.064_847_745,
                    -0.114_743_69,
                ],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[0.043_203_197f32, 0.102_852_166, -0.064_847_745, -0.114_743_69],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[0.100_064_65f32, 0.184_247_94, -0.180_467_02, -0.309_282_78],
            ),
        ]),
        whole_lstm("everything, both ways", 2).expect(vec![
            Tensor::from_slice(
                &[3, 2, 2, 2],
                &[
                    -0.269_741_65f32,
                    0.080_215_78,
                    0.002_613_241_3,
                    -0.108_939_1,
                    -0.198_626_74,
                    0.108_252_4,
                    -0.405_871_78,
                    -0.021_367_261,
                    -0.125_808_46,
                    0.104_418_08,
                    -0.053_439_237,
                    -0.029_258_452,
                    -0.185_803_67,
                    0.035_946_37,
                    -0.184_640_57,
                    0.064_265_26,
                    -0.196_882_65,
                    0.141_479_83,
                    0.0,
                    0.0,
                    -0.127_432_36,
                    0.166_302_53,
                    0.0,
                    0.0,
                ],
            ),
            Tensor::from_slice(
                &[2, 2, 2],
                &[
                    -0.196_882_65f32,
                    0.141_479_83,
                    -0.053_439_237,
                    -0.029_258_452,
                    -0.198_626_74,
                    0.108_252_4,
                    -0.405_871_78,
                    -0.021_367_261,
                ],
            ),
            Tensor::from_slice(
                &[2, 2, 2],
                &[
                    -0.369_510_92f32,
                    0.376_096,
                    -0.077_190_51,
                    -0.071_963_28,
                    -0.319_384_72,
                    0.273_184_12,
                    -0.860_817_97,
                    -0.105_458_81,
                ],
            ),
        ]),
        backwards.attr("direction", reverse).expect(vec![
            Tensor::from_slice(
                &[3, 1, 2, 2],
                &[
                    -0.163_877f32,
                    0.126_916_84,
                    -0.075_195_9,
                    -0.051_129_08,
                    -0.081_790_63,
                    0.101_283_17,
                    0.056_822_214,
                    -0.002_134_265_1,
                    -0.241_179_8,
                    0.067_033_47,
                    0.0,
                    0.0,
                ],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[-0.163_877f32, 0.126_916_84, -0.075_195_9, -0.051_129_08],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[-0.279_665_92f32, 0.334_146_38, -0.139_221_18, -0.136_263_85],
            ),
        ]),
        small("coupled gates", 1, 4)
            .input(Some(weights(&[1, 16])))
            .attr("input_forget", Attr::Int(1))
            .expect(vec![
                Tensor::from_slice(
                    &[3, 1, 2, 2],
                    &[
                        -0.122_651_22f32,
                        0.083_365_85,
                        -0.078_520_05,
                        -0.032_562_576,
                        -0.060_453_21,
                        0.113_824_666,
                        -0.113_072_12,
                        0.040_560_71,
                        -0.161_615_2,
                        0.158_798_34,
                        -0.149_748_12,
                        -0.012_036_508,
                    ],
                ),
                Tensor::from_slice(
                    &[1, 2, 2],
                    &[-0.161_615_2f32, 0.158_798_34, -0.149_748_12, -0.012_036_508],
                ),
                Tensor::from_slice(
                    &[1, 2, 2],
                    &[-0.280_711_08f32, 0.400_521_8, -0.296_244, -0.047_988_486],
                ),
            ]),
        activated(
            "hard, scaled, soft",
            ["HardSigmoid", "ScaledTanh", "Softsign"],
            &[0.3, 0.7],
            &[0.4, 0.6],
        )
        .expect(vec![
            Tensor::from_slice(
                &[3, 1, 2, 2],
                &[
                    -0.033_661_567f32,
                    0.015_722_899,
                    0.0,
                    -0.003_081_805_8,
                    -0.010_200_879,
                    0.018_316_926,
                    -0.011_664_64,
                    0.007_059_067,
                    -0.043_708_533,
                    0.025_293_333,
                    -0.006_007_550_7,
                    -0.001_080_834_1,
                ],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[-0.043_708_533f32, 0.025_293_333, -0.006_007_550_7, -0.001_080_834_1],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[-0.096_113_53f32, 0.094_832_03, -0.014_436_179, -0.017_057_21],
            ),
        ]),
        activated(
            "affine, leaky, exponential",
            ["Affine", "LeakyRelu", "Elu"],
            &[0.5, 0.2, 1.5],
            &[0.25],
        )
        .expect(vec![
            Tensor::from_slice(
                &[3, 1, 2, 2],
                &[
                    -0.009_313_923f32,
                    -0.004_413_351_4,
                    0.027_549_753,
                    0.011_351_556,
                    -0.087_853_245,
                    -0.001_866_722_6,
                    0.024_064_854,
                    -0.002_903_106,
                    -0.041_935_775,
                    -0.008_475_181,
                    0.022_617_264,
                    0.025_355_333,
                ],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[-0.041_935_775f32, -0.008_475_181, 0.022_617_264, 0.025_355_333],
            ),
            Tensor::from_slice(
                &[1, 2, 2],
                &[-0.071_260_974f32, -0.077_700_79, 0.079_051_11, -0.055_418_286],
            ),
        ]),
        activated("threshold", ["Sigmoid", "ThresholdedRelu", "Softplus"], &[0.9], &[]).expect(
            vec![
                Tensor::from_slice(
                    &[3, 1, 2, 2],
                    &[
                        0.426_420_24f32,
                        0.283_514_1,
                        0.384_543_66,
                        0.169_905_63,
                        0.579_331_5,
                        0.275_377_5,
                        0.506_788_55,
                        0.275_096_6,
                        0.429_999_14,
                        0.273_898_78,
                        0.387_269_65,
                        0.164_329_23,
                    ],
                ),
                Tensor::from_slice(
                    &[1, 2, 2],
                    &[0.429_999_14f32, 0.273_898_78, 0.387_269_65, 0.164_329_23],
                ),
                Tensor::from_slice(&[1, 2, 2], &[0.0f32, 0.0, 0.0, 0.0]),
            ],
        ),
        Case { outputs: 3, ..wide("wide, batch first", 4) },
        only_y(wide("one result", 4)),
        only_y(Case::new(
            "no sequence",
            vec![ramp(&[3, 0, 2]), ramp(&[1, 8, 2]), ramp(&[1, 8, 2])],
        )),
    ]
}

pub(super) fn gru() -> Vec<Case> {
    let cases = gru_in_f32();
    let cases = also_doubles(cases, "reset first", "reset first, f64");
    also_doubles(cases, "linear first", "linear first, f64")
}

fn gru_in_f32() -> Vec<Case> {
    let linear = |case: Case| case.attr("linear_before_reset", Attr::Int(1));
    vec![
        whole("reset first", 2, 3).expect(vec![
            Tensor::from_slice(
                &[3, 2, 2, 2],
                &[
                    0.160_648_45f32,
                    -0.222_278_15,
                    -0.095_114_23,
                    -0.049_046_56,
                    0.251_017_75,
                    0.239_553_42,
                    -0.116_971_835,
                    -0.284_738_33,
                    0.057_777_67,
                    -0.307_427_94,
                    0.288_925_77,
                    -0.235_720_29,
                    0.263_553_3,
                    0.153_929_81,
                    0.032_805_324,
                    0.179_498_51,
                    0.426_605_55,
                    -0.265_996_34,
                    0.0,
                    0.0,
                    0.139_308_29,
                    0.447_120_07,
                    0.0,
                    0.0,
                ],
            ),
            Tensor::from_slice(
                &[2, 2, 2],
                &[
                    0.426_605_55f32,
                    -0.265_996_34,
                    0.288_925_77,
                    -0.235_720_29,
                    0.251_017_75,
                    0.239_553_42,
                    -0.116_971_835,
                    -0.284_738_33,
                ],
            ),
        ]),
        linear(whole("linear first", 2, 3)).expect(vec![
            Tensor::from_slice(
                &[3, 2, 2, 2],
                &[
                    0.133_368_12f32,
                    -0.121_655_1,
                    -0.221_191_44,
                    -0.027_352_378,
                    0.387_472_84,
                    0.204_587_09,
                    -0.031_868_357,
                    -0.300_574_42,
                    -0.011_056_233,
                    -0.181_512_8,
                    0.185_309_23,
                    -0.140_425_76,
                    0.353_971_48,
                    0.129_137_49,
                    0.094_026_34,
                    0.175_038_28,
                    0.359_123_23,
                    -0.119_517_53,
                    0.0,
                    0.0,
                    0.224_562_59,
                    0.438_413_62,
                    0.0,
                    0.0,
                ],
            ),
            Tensor::from_slice(
                &[2, 2, 2],
                &[
                    0.359_123_23f32,
                    -0.119_517_53,
                    0.185_309_23,
                    -0.140_425_76,
                    0.387_472_84,
                    0.204_587_09,
                    -0.031_868_357,
                    -0.300_574_42,
                ],
            ),
        ]),
        Case { outputs: 2, ..wide("wide, reset first", 3) },
        Case { outputs: 2, ..linear(wide("wide, linear first", 3)) },
        only_y(linear(wide("one result", 3))),
    ]
}

pub(super) fn rnn() -> Vec<Case> {
    let cases = rnn_in_f32();
    also_doubles(cases, "both ways", "both ways, f64")
}

fn rnn_in_f32() -> Vec<Case> {
    let relu = Attr::Strs(vec!["Relu".to_owned()]);
    vec![
        whole("both ways", 2, 1).expect(vec![
            Tensor::from_slice(
                &[3, 2, 2, 2],
                &[
                    0.618_455_4f32,
                    -0.745_834,
                    -0.600_225_7,
                    0.618_764_3,
                    0.145_588_76,
                    0.719_005_35,
                    -0.163_854_06,
                    0.244_172_93,
                    -0.402_878_88,
                    -0.279_600_62,
                    0.433_105_47,
                    -0.825_652_36,
                    0.781_033_9,
                    0.788_773_3,
                    0.215_564_73,
                    0.749_800_8,
                    0.689_769,
                    -0.720_903_46,
                    0.0,
                    0.0,
                    -0.207_253_63,
                    0.753_325_6,
                    0.0,
                    0.0,
                ],
            ),
            Tensor::from_slice(
                &[2, 2, 2],
                &[
                    0.689_769f32,
                    -0.720_903_46,
                    0.433_105_47,
                    -0.825_652_36,
                    0.145_588_76,
                    0.719_005_35,
                    -0.163_854_06,
                    0.244_172_93,
                ],
            ),
        ]),
        whole("rectified, clipped", 1, 1)
            .attr("activations", relu)
            .attr("clip", Attr::Float(0.75))
            .expect(vec![
                Tensor::from_slice(
                    &[3, 1, 2, 2],
                    &[
                        0.722_499_97f32,
                        0.0,
                        0.0,
                        0.723_000_1,
                        0.0,
                        0.0,
                        0.227_54,
                        0.0,
                        0.684_8,
                        0.0,
                        0.0,
                        0.0,
                    ],
                ),
                Tensor::from_slice(&[1, 2, 2], &[0.684_8f32, 0.0, 0.227_54, 0.0]),
            ]),
        Case { outputs: 2, ..wide("wide, batch first", 1) },
    ]
}
