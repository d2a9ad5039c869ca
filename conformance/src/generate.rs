//! Generated models: what exporters write after one another in image and text models, in any order.

use crate::graphs::{Builder, int, ints};
use engine_format::{DType, Tensor};

/// A model being put together from numbers; any numbers give a model.
struct Growth {
    graph: Builder,
    /// The value that the next step takes, and others of its shape.
    current: String,
    before: Vec<String>,
    /// Channels of an image, or elements of a row.
    width: usize,
    made: usize,
}

/// Height and width of images.
const SIDE: usize = 6;

/// An image model of as many steps as `steps` has, which ends in rows: input `x`, output `y`.
pub fn image_model(steps: &[u8]) -> Vec<u8> {
    let mut growth = Growth::new(17);
    let side = SIDE.to_string();
    growth.graph.input("x", DType::F32, &["n", "17", &side, &side]);
    growth.convolution(24, 1);
    for &step in steps {
        growth.image_step(step);
    }
    growth.finish()
}

/// A text model of as many steps as `steps` has: input `x` of (n, 5, 20), output `y`.
pub fn row_model(steps: &[u8]) -> Vec<u8> {
    let mut growth = Growth::new(20);
    growth.graph.input("x", DType::F32, &["n", "5", "20"]);
    growth.dense(20);
    for &step in steps {
        growth.row_step(step);
    }
    growth.finish()
}

impl Growth {
    fn new(width: usize) -> Self {
        Self { graph: Builder::new(), current: "x".into(), before: Vec::new(), width, made: 0 }
    }

    fn finish(mut self) -> Vec<u8> {
        self.graph.node("Identity", &[&self.current], "y", vec![]);
        self.graph.finish(&["y"])
    }

    fn name(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}{}", self.made)
    }

    /// A node over `inputs`, whose result has a name of its own.
    fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        let name = self.name(&op.to_lowercase());
        self.graph.node(op, inputs, &name, vec![]);
        name
    }

    fn weight(&mut self, shape: &[usize]) -> String {
        let name = self.name("w");
        self.graph.weight(&name, shape);
        name
    }

    fn scalar(&mut self, value: f32) -> String {
        let name = self.name("s");
        self.graph.constant(&name, &Tensor::from_slice(&[], &[value]));
        name
    }

    /// The next step goes on from `value`, which has the shape of the one before or (`anew`) another.
    fn go_on(&mut self, value: String, anew: bool) {
        if anew {
            self.before.clear();
        } else {
            self.before.push(std::mem::take(&mut self.current));
        }
        self.current = value;
    }

    fn image_step(&mut self, step: u8) {
        let x = self.current.clone();
        match step % 10 {
            0 => self.convolution(24, 1),
            1 => self.convolution(self.width, self.width),
            2 => self.batch_norm(),
            3 => self.channel("Mul"),
            4 => self.channel("Add"),
            other => {
                let y = self.function(other, &x);
                self.go_on(y, false);
            }
        }
    }

    fn row_step(&mut self, step: u8) {
        let x = self.current.clone();
        let width = self.width;
        match step % 10 {
            0 => self.dense(20),
            1 => self.dense(28),
            2 => {
                let w = self.weight(&[width]);
                let y = self.node("Mul", &[&x, &w]);
                self.go_on(y, false);
            }
            3 => self.layer_norm(),
            4 => self.attention(),
            other => {
                let y = self.function(other, &x);
                self.go_on(y, false);
            }
        }
    }

    /// Functions that are elementwise, and residuals.
    fn function(&mut self, kind: u8, x: &str) -> String {
        match kind {
            5 => self.node("Relu", &[x]),
            6 => {
                let (low, high) = (self.scalar(-0.5), self.scalar(1.5));
                self.node("Clip", &[x, &low, &high])
            }
            7 => {
                let gate = self.node("Sigmoid", &[x]);
                self.node("Mul", &[x, &gate])
            }
            8 => self.gelu(x),
            _ => match self.before.last().cloned() {
                Some(other) => self.node("Add", &[&other, x]),
                None => self.node("Tanh", &[x]),
            },
        }
    }

    fn gelu(&mut self, x: &str) -> String {
        let (root, one) = (self.scalar(std::f32::consts::SQRT_2), self.scalar(1.0));
        let half = self.scalar(0.5);
        let share = self.node("Div", &[x, &root]);
        let erf = self.node("Erf", &[&share]);
        let sum = self.node("Add", &[&erf, &one]);
        let product = self.node("Mul", &[x, &sum]);
        self.node("Mul", &[&product, &half])
    }

    fn convolution(&mut self, filters: usize, groups: usize) {
        let weight = self.weight(&[filters, self.width / groups, 3, 3]);
        let y = self.name("conv");
        let attributes = vec![ints("pads", &[1, 1, 1, 1]), int("group", groups as i64)];
        let x = self.current.clone();
        self.graph.node("Conv", &[&x, &weight], &y, attributes);
        self.go_on(y, filters != self.width);
        self.width = filters;
    }

    fn batch_norm(&mut self) {
        let [scale, shift, mean] = [0; 3].map(|_| self.weight(&[self.width]));
        let variance = self.name("variance");
        let values: Vec<f32> = (0..self.width).map(|i| 0.5 + i as f32 / 16.0).collect();
        self.graph.constant(&variance, &Tensor::from_slice(&[self.width], &values));
        let x = self.current.clone();
        let y = self.node("BatchNormalization", &[&x, &scale, &shift, &mean, &variance]);
        self.go_on(y, false);
    }

    /// A factor or an addend for each channel.
    fn channel(&mut self, op: &str) {
        let weight = self.weight(&[self.width, 1, 1]);
        let x = self.current.clone();
        let y = self.node(op, &[&weight, &x]);
        self.go_on(y, false);
    }

    fn dense(&mut self, width: usize) {
        let (weight, bias) = (self.weight(&[self.width, width]), self.weight(&[width]));
        let x = self.current.clone();
        let product = self.node("MatMul", &[&x, &weight]);
        let y = self.node("Add", &[&bias, &product]);
        self.go_on(y, width != self.width);
        self.width = width;
    }

    fn layer_norm(&mut self) {
        let (scale, shift) = (self.weight(&[self.width]), self.weight(&[self.width]));
        let (epsilon, two) = (self.scalar(1e-5), self.scalar(2.0));
        let last = self.name("last");
        self.graph.constant(&last, &Tensor::from_slice(&[1], &[-1i64]));
        let x = self.current.clone();
        let mean = self.node("ReduceMean", &[&x, &last]);
        let centred = self.node("Sub", &[&x, &mean]);
        let squares = self.node("Pow", &[&centred, &two]);
        let variance = self.node("ReduceMean", &[&squares, &last]);
        let positive = self.node("Add", &[&variance, &epsilon]);
        let deviation = self.node("Sqrt", &[&positive]);
        let unit = self.node("Div", &[&centred, &deviation]);
        let scaled = self.node("Mul", &[&unit, &scale]);
        let y = self.node("Add", &[&scaled, &shift]);
        self.go_on(y, false);
    }

    /// Rows attend to each other, with a mask that is a weight.
    fn attention(&mut self) {
        let (scale, mask) = (self.scalar(4.0), self.weight(&[5, 5]));
        let x = self.current.clone();
        let keys = self.name("keys");
        self.graph.node("Transpose", &[&x], &keys, vec![ints("perm", &[0, 2, 1])]);
        let scores = self.node("MatMul", &[&x, &keys]);
        let scaled = self.node("Div", &[&scores, &scale]);
        let masked = self.node("Add", &[&scaled, &mask]);
        let shares = self.node("Softmax", &[&masked]);
        let y = self.node("MatMul", &[&shares, &x]);
        self.go_on(y, false);
    }
}
