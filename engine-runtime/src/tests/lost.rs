//! A GPU that goes away while a module on it is refitted.

use super::on_gpu::opened;
use super::toy::{bits, model, run, weights, x};
use crate::gpu::{GpuDevice, GpuError, GpuErrorKind};
use crate::{Device, LiveModule, Module, PackedModule, RunErrorKind};
use engine_format::{
    EngineFlags, FitPolicy, MapSource, SerializeFlags, SourceError, Tensor, TensorInfo,
    WeightSource,
};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A source under whose reads the GPU is lost: before the read of this number, counted from zero.
struct Losing {
    inner: MapSource,
    gpu: GpuDevice,
    reads_left: AtomicUsize,
}

impl WeightSource for Losing {
    fn origin(&self) -> String {
        self.inner.origin()
    }

    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.inner.info(name)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        if self.reads_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let lost = GpuError::new(GpuErrorKind::Lost, "the adapter", "it fell off the bus");
            self.gpu.keep_fault(lost);
        }
        self.inner.read(name)
    }
}

#[test]
fn a_device_that_is_lost_during_a_refit_leaves_the_module_as_it_was() {
    let full = model(EngineFlags::REFIT);
    let file = |module: &dyn Module| module.serialize(SerializeFlags::INCLUDE_REFIT).unwrap();
    for reads in 0..full.parts().weights.len() {
        for is_packed in [false, true] {
            let Some(gpu) = opened(&[]) else { return };
            let load = |gpu: &GpuDevice, bytes: Vec<u8>| -> Box<dyn Module> {
                let device = Device::gpu(gpu.clone());
                match is_packed {
                    true => Box::new(PackedModule::load(bytes.into(), &device).unwrap()),
                    false => {
                        let engine = engine_format::Engine::read(bytes.into()).unwrap();
                        Box::new(LiveModule::load(engine, &device).unwrap())
                    }
                }
            };
            let module = load(&gpu, full.serialize(SerializeFlags::INCLUDE_REFIT).unwrap());
            module.refit(&weights(&full, 1), FitPolicy::default()).unwrap();
            let before = (module.state(), bits(&run(&*module, &x(2))), file(&*module));
            let source = Losing {
                inner: weights(&full, 2),
                gpu: gpu.clone(),
                reads_left: AtomicUsize::new(reads),
            };
            let error = module.refit(&source, FitPolicy::default()).unwrap_err().to_string();
            assert!(error.contains("it fell off the bus"), "{error}");
            assert_eq!(module.state(), before.0, "read {reads}");
            let ran = module.run(&x(2)).unwrap_err();
            assert_eq!(ran.kind(), RunErrorKind::Device, "{ran}");
            // What it holds on the host is whole, and goes on elsewhere.
            assert!(file(&*module) == before.2, "read {reads}");
            let Some(other) = opened(&[]) else { return };
            let again = load(&other, file(&*module));
            assert_eq!(bits(&run(&*again, &x(2))), before.1);
            again.refit(&weights(&full, 2), FitPolicy::default()).unwrap();
            assert_ne!(bits(&run(&*again, &x(2))), before.1);
        }
    }
}
