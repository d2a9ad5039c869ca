//! Operators that this crate names.

engine_ops::operators!(
    Add Attention BatchNormalization Cast CastLike Ceil Clip Concat Conv ConvTranspose Div Elementwise Erf Exp Expand Flatten Floor
    FusedMatMul Gather Gelu Gemm HardSigmoid HardSwish Identity If IsNaN LayerNormalization Loop MatMul Max Min Mish Mod Mul Neg
    PRelu Pow RMSNormalization Reciprocal ReduceMax ReduceMean ReduceSum Reshape Rotary Round SequenceAt Sigmoid Slice Softmax Softplus
    Split SplitToSequence Sqrt Squeeze Sub Swish Tanh Transpose Unsqueeze Where
);
