//! Every GPU program of every case, checked without a GPU: the text is WGSL, its bindings are the ones that the program
//! states, and it stays within the limits of the WebGPU baseline.

use engine_format::DType;
use engine_ops::case::Case;
use engine_ops::cpu::TensorMeta;
use engine_ops::gpu::{Bind, Dispatch, GpuCtx, GpuKernel, GpuLimits, GpuProgram, wgsl_type, words};
use engine_ops::{Kind, OpDef, Role, TABLE, eval};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, ScalarKind, Statement, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the WebGPU baseline offers and [`GpuLimits`] does not state because no kernel adapts to it.
const STORAGE_BUFFERS: usize = 8;
const WORKGROUP_SIZE: [u32; 3] = [256, 256, 64];
const UNIFORM_BYTES: usize = 64 << 10;

/// Devices that are made up: the least there is, what phones, software and large GPUs have, and what fits nothing but the baseline's kernels.
const TARGETS: [GpuLimits; 6] = [
    GpuLimits::BASELINE,
    GpuLimits { max_invocations: 512, ..GpuLimits::BASELINE },
    GpuLimits { max_invocations: 1024, workgroup_memory: 32_768, ..GpuLimits::BASELINE },
    GpuLimits { max_invocations: 1024, workgroup_memory: 49_152, ..GpuLimits::BASELINE },
    GpuLimits { max_workgroups: 1 << 31, workgroup_memory: 16_896, ..GpuLimits::BASELINE },
    GpuLimits {
        max_workgroups: 1 << 31,
        max_invocations: 1024,
        workgroup_memory: 49_152,
        matrix_units: true,
    },
];

/// One case of an operator that has WGSL, with the types of its operands and results.
struct Subject {
    def: &'static OpDef,
    case: Case,
    inputs: Vec<Option<TensorMeta>>,
    outputs: Vec<Option<TensorMeta>>,
}

impl Subject {
    fn all() -> impl Iterator<Item = Self> {
        let defs = TABLE.iter().filter(|d| d.gpu.is_some() && d.kind != Kind::Control);
        defs.flat_map(|def| (def.cases)().into_iter().map(|case| Self::new(def, case)))
            .filter(|subject| !subject.has_strings())
    }

    /// Strings stay on the host.
    fn has_strings(&self) -> bool {
        let metas = self.inputs.iter().chain(&self.outputs);
        metas.flatten().any(|meta| meta.dtype == DType::String)
    }

    fn new(def: &'static OpDef, case: Case) -> Self {
        let results = eval(def, &attrs(def, &case), &case.inputs, case.outputs)
            .unwrap_or_else(|e| panic!("{def:?} case {:?}: {e}", case.name));
        let outputs = results.iter().map(|t| Some(TensorMeta::from(t))).collect();
        let inputs = case.inputs.iter().map(|t| t.as_ref().map(TensorMeta::from)).collect();
        Self { def, case, inputs, outputs }
    }

    /// The program of the kernel that always works, on the baseline.
    fn program(&self, all: bool) -> Option<GpuProgram> {
        let gpu = self.def.gpu.expect("only operators with a GPU kernel are subjects");
        self.program_of(gpu, &GpuLimits::BASELINE, all)
    }

    /// The program of a kernel, given what a plan knows: the contents of operands that decide shapes, and `all` contents if the
    /// operands are literals.
    fn program_of(&self, gpu: GpuKernel, limits: &GpuLimits, all: bool) -> Option<GpuProgram> {
        let found = self.program_over(gpu, limits, all, &[]);
        let reads = |(i, meta): (usize, &Option<TensorMeta>)| {
            meta.as_ref().is_some_and(|meta| self.def.reads_halves(i, meta.dtype))
        };
        let halves: Vec<bool> = self.inputs.iter().enumerate().map(reads).collect();
        if !halves.contains(&true) {
            return found;
        }
        // Both texts are dispatches of one program here: each is validated.
        let over_halves = self.program_over(gpu, limits, all, &halves);
        assert_eq!(found.is_some(), over_halves.is_some(), "{self}: halves are another matter");
        assert!(found.is_none() || found != over_halves, "{self}: halves are read as words");
        let mut found = found?;
        let scratch = found.scratch.len();
        let mut more = over_halves?;
        for bind in more.dispatches.iter_mut().flat_map(|dispatch| &mut dispatch.binds) {
            if let Bind::Scratch(i) = bind {
                *i += scratch;
            }
        }
        found.dispatches.append(&mut more.dispatches);
        found.scratch.append(&mut more.scratch);
        Some(found)
    }

    fn program_over(
        &self,
        gpu: GpuKernel,
        limits: &GpuLimits,
        all: bool,
        halves: &[bool],
    ) -> Option<GpuProgram> {
        let known = |i: usize| all || self.def.operand(i).is_some_and(|o| o.role == Role::Shape);
        let inputs = self.case.inputs.iter().enumerate();
        let values: Vec<_> = inputs.map(|(i, t)| t.clone().filter(|_| known(i))).collect();
        let ctx = GpuCtx {
            attrs: &attrs(self.def, &self.case),
            inputs: &self.inputs,
            values: &values,
            outputs: &self.outputs,
            halves,
            limits,
        };
        gpu(&ctx).unwrap_or_else(|e| panic!("{self}: {e}"))
    }

    fn bound(&self, bind: Bind) -> Option<&TensorMeta> {
        match bind {
            Bind::In(i) => {
                let found = self.inputs.get(i).and_then(Option::as_ref);
                Some(found.unwrap_or_else(|| panic!("{self} binds operand {i}, which is absent")))
            }
            Bind::Out(i) => {
                let found = self.outputs.get(i).and_then(Option::as_ref);
                Some(found.unwrap_or_else(|| panic!("{self} binds result {i}, which is absent")))
            }
            Bind::Scratch(_) | Bind::Outside => None,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} case {:?}", self.def, self.case.name)
    }
}

fn attrs(def: &OpDef, case: &Case) -> engine_format::Attrs {
    let given = case.attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    def.normalise(given).unwrap_or_else(|e| panic!("{def:?} case {:?}: {e}", case.name))
}

/// Parsed and validated, with the sizes of its types.
struct Shader {
    module: Module,
    info: ModuleInfo,
}

impl Shader {
    fn new(text: &str, limits: &GpuLimits) -> Result<Self, String> {
        if let Some(at) = text.find("{{") {
            let key: String = text[at..].chars().take(40).collect();
            return Err(format!("the template key {key:?} was not replaced"));
        }
        let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
        // quantizeToF16 is core WGSL; naga gates it because old OpenGL ES lacks it.
        let core = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let units = Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
        let capabilities = if limits.matrix_units { core | units } else { core };
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .map_err(|e| e.emit_to_string(text))?;
        Ok(Self { module, info })
    }

    /// Whether the entry point, or what it calls, has a loop.
    fn loops(&self) -> bool {
        let module = &self.module;
        let mut bodies = vec![&module.entry_points[0].function.body];
        let mut called = BTreeSet::new();
        while let Some(body) = bodies.pop() {
            for statement in body.iter() {
                match statement {
                    Statement::Loop { .. } => return true,
                    Statement::Block(inner) => bodies.push(inner),
                    Statement::If { accept, reject, .. } => bodies.extend([accept, reject]),
                    Statement::Switch { cases, .. } => {
                        bodies.extend(cases.iter().map(|case| &case.body));
                    }
                    Statement::Call { function, .. } if called.insert(*function) => {
                        bodies.push(&module.functions[*function].body);
                    }
                    _ => {}
                }
            }
        }
        false
    }

    fn size(&self, global: &GlobalVariable) -> usize {
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(self.module.to_ctx()).expect("the module is valid");
        layouter[global.ty].size as usize
    }

    /// Scalar kind of the elements of a storage array.
    fn element(&self, global: &GlobalVariable) -> Option<ScalarKind> {
        let TypeInner::Array { base, .. } = self.module.types[global.ty].inner else {
            return None;
        };
        match self.module.types[base].inner {
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => Some(scalar.kind),
            TypeInner::Vector { scalar, .. } => Some(scalar.kind),
            _ => None,
        }
    }
}

/// Everything that is wrong with one dispatch.
fn check(
    subject: &Subject,
    limits: &GpuLimits,
    program: &GpuProgram,
    dispatch: &Dispatch,
    shader: &Shader,
) {
    let at = format!("{subject}, dispatch {:?}", dispatch.label);
    check_entry_point(&at, limits, shader);
    check_bindings(&at, subject, dispatch, shader);
    check_buffers(&at, subject, program, dispatch);
    assert!(dispatch.rounds > 0 || !shader.loops(), "{at}: has loops and states no rounds");
    let [x, y, z] = dispatch.groups;
    let most = limits.max_workgroups;
    assert!(x.max(y).max(z) <= most, "{at}: {:?} workgroups", dispatch.groups);
}

fn check_entry_point(at: &str, limits: &GpuLimits, shader: &Shader) {
    let [entry] = shader.module.entry_points.as_slice() else {
        panic!("{at}: has {} entry points, expected 1", shader.module.entry_points.len());
    };
    assert_eq!(entry.name, "main", "{at}: name of the entry point");
    assert_eq!(entry.stage, naga::ShaderStage::Compute, "{at}: stage");
    let size = entry.workgroup_size;
    let invocations = size.iter().product::<u32>();
    let fits = size.iter().zip(WORKGROUP_SIZE).all(|(&s, most)| s <= most);
    let most = limits.max_invocations;
    assert!(fits && invocations <= most, "{at}: workgroups of {size:?}");
    let used = shader.info.get_entry_point(0);
    let workgroup: usize = shader
        .module
        .global_variables
        .iter()
        .filter(|(handle, g)| g.space == AddressSpace::WorkGroup && !used[*handle].is_empty())
        .map(|(_, g)| shader.size(g))
        .sum();
    let most = limits.workgroup_memory as usize;
    assert!(workgroup <= most, "{at}: {workgroup} bytes of workgroup memory, at most {most}");
}

fn check_bindings(at: &str, subject: &Subject, dispatch: &Dispatch, shader: &Shader) {
    let globals: BTreeMap<u32, &GlobalVariable> = shader
        .module
        .global_variables
        .iter()
        .filter_map(|(_, g)| {
            let binding = g.binding.as_ref()?;
            assert_eq!(binding.group, 0, "{at}: {:?} is in another group", g.name);
            Some((binding.binding, g))
        })
        .collect();
    let params = usize::from(!dispatch.params.is_empty());
    let stated = dispatch.binds.len() + params;
    let numbers: Vec<u32> = globals.keys().copied().collect();
    assert_eq!(numbers, (0..stated as u32).collect::<Vec<_>>(), "{at}: bindings");
    assert!(dispatch.binds.len() <= STORAGE_BUFFERS, "{at}: {stated} storage buffers");

    for (bind, global) in dispatch.binds.iter().zip(globals.values()) {
        let access = match bind {
            Bind::In(_) => StorageAccess::LOAD,
            Bind::Out(_) | Bind::Scratch(_) | Bind::Outside => {
                StorageAccess::LOAD | StorageAccess::STORE
            }
        };
        assert_eq!(global.space, AddressSpace::Storage { access }, "{at}: {bind:?}");
        let Some(dtype) = subject.bound(*bind).map(|m| m.dtype) else { continue };
        let expected = match wgsl_type(dtype) {
            Some("f32") => ScalarKind::Float,
            Some("i32") => ScalarKind::Sint,
            _ => ScalarKind::Uint,
        };
        // A kernel that only moves data may read every element as plain words.
        let found = shader.element(global).unwrap_or_else(|| panic!("{at}: {bind:?} is no array"));
        let fits = found == expected || found == ScalarKind::Uint;
        assert!(fits, "{at}: {bind:?} is {dtype}, read as {found:?}");
    }
    if params == 1 {
        let global = globals[&(dispatch.binds.len() as u32)];
        assert_eq!(global.space, AddressSpace::Uniform, "{at}: parameters");
        let (size, given) = (shader.size(global), dispatch.params.len() * 4);
        let same = size.next_multiple_of(16) == given.next_multiple_of(16);
        assert!(same, "{at}: parameters of {size} bytes, {given} are given");
        assert!(given <= UNIFORM_BYTES, "{at}: {given} bytes of parameters");
    }
}

fn check_buffers(at: &str, subject: &Subject, program: &GpuProgram, dispatch: &Dispatch) {
    let idle = dispatch.groups.contains(&0);
    let mut seen = BTreeSet::new();
    for &bind in &dispatch.binds {
        let key = format!("{bind:?}");
        assert!(seen.insert(key), "{at}: {bind:?} is bound twice");
        if let Bind::Scratch(i) = bind {
            let words = program.scratch.get(i).unwrap_or_else(|| panic!("{at}: no scratch {i}"));
            assert!(idle || *words > 0, "{at}: {bind:?} is empty");
        }
        if let Some(meta) = subject.bound(bind) {
            assert!(words(meta.dtype).is_some(), "{at}: {bind:?} is {}", meta.dtype);
            assert!(idle || !meta.is_empty(), "{at}: {bind:?} has no elements and is bound");
        }
    }
}

/// Writes those texts that are WGSL as browsers know it to a folder, for other compilers; cooperative matrices are wgpu's own.
fn write<'a>(texts: impl Iterator<Item = &'a String>, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let standard = texts.filter(|text| !text.contains("wgpu_cooperative_matrix"));
    for (i, text) in standard.enumerate() {
        std::fs::write(folder.join(format!("{i:05}.wgsl")), text)?;
    }
    Ok(())
}

#[test]
fn every_program_is_valid_and_binds_what_it_states() {
    let mut shaders: BTreeMap<String, Shader> = BTreeMap::new();
    let mut candidates = 0;
    for subject in Subject::all() {
        // The row's own kernel, which works on the baseline, and the others on devices that they may be made for.
        let own = [false, true].iter().filter_map(|&all| subject.program(all));
        let mut programs: Vec<_> = own.map(|program| (&GpuLimits::BASELINE, program)).collect();
        for candidate in subject.def.gpu_candidates {
            for limits in &TARGETS {
                let program = subject.program_of(candidate.kernel, limits, false);
                programs.extend(program.map(|program| (limits, program)));
                candidates += 1;
            }
        }
        for (limits, program) in programs {
            let written: BTreeSet<usize> = program
                .dispatches
                .iter()
                .flat_map(|d| &d.binds)
                .filter_map(|b| if let Bind::Out(i) = b { Some(*i) } else { None })
                .collect();
            for (i, meta) in subject.outputs.iter().enumerate() {
                let wanted = meta.as_ref().is_some_and(|m| !m.is_empty());
                assert!(!wanted || written.contains(&i), "{subject}: result {i} is never written");
            }
            for dispatch in &program.dispatches {
                let text = dispatch.wgsl.to_string();
                let shader = shaders.entry(text).or_insert_with_key(|text| {
                    Shader::new(text, limits).unwrap_or_else(|e| panic!("{subject}: {e}\n{text}"))
                });
                check(&subject, limits, &program, dispatch, shader);
            }
        }
    }
    if let Some(folder) = std::env::var_os("REFIT_SHADERS") {
        write(shaders.keys(), Path::new(&folder)).expect("the folder of shaders is written");
    }
    assert!(shaders.len() > 5, "only {} shaders were looked at", shaders.len());
    assert!(candidates > 50, "only {candidates} candidates were looked at");
}

/// A case of f32 data that stays on the CPU although the operator has WGSL is a hole that would show only as a slow model.
#[test]
fn operators_with_wgsl_use_it_for_f32() {
    for def in TABLE.iter().filter(|d| d.gpu.is_some()) {
        let mut subjects = (def.cases)().into_iter().map(|case| Subject::new(def, case));
        let takes = |s: &Subject| s.program(false).is_some() || s.program(true).is_some();
        assert!(subjects.any(|s| takes(&s)), "{def:?}: no case runs on the GPU");
    }
}

/// The net must hold: a shader whose binding is writable where it should be read is refused.
#[test]
fn a_wrong_binding_is_noticed() {
    let def = engine_ops::lookup("Relu", 1).expect("Relu is in the table");
    let subject = Subject::new(def, (def.cases)().remove(0));
    let mut program = subject.program(false).expect("Relu has WGSL for f32");
    let dispatch = &mut program.dispatches[0];
    dispatch.binds.swap(0, 1);
    let (dispatch, shader) =
        (dispatch.clone(), Shader::new(&dispatch.wgsl, &GpuLimits::BASELINE).unwrap());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        check(&subject, &GpuLimits::BASELINE, &program, &dispatch, &shader);
    }));
    assert!(outcome.is_err(), "swapped bindings went unnoticed");
}
