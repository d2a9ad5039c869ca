//! How engines become files, and files modules.

use engine_format::{Bytes, Engine, FormatError, SerializeFlags};
use engine_runtime::{Device, LiveModule, LoadError, Module, PackedModule};

/// The module paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// [`LiveModule`].
    Live,
    /// [`PackedModule`].
    Packed,
}

impl Path {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Live, Self::Packed];

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Live => Self::Packed,
            Self::Packed => Self::Live,
        }
    }
}

/// What scenarios hold: the three doors through which engines, files and modules become one another. The defaults are this stack's own;
/// who holds scenarios to what they must find puts a fault into one.
pub trait Stack: Sync {
    /// An engine's file.
    ///
    /// # Errors
    /// As [`Engine::serialize`].
    fn serialize(&self, engine: &Engine, options: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        engine.serialize(options)
    }

    /// A file's engine.
    ///
    /// # Errors
    /// As [`Engine::read`].
    fn read(&self, file: Bytes) -> Result<Engine, FormatError> {
        Engine::read(file)
    }

    /// A file's module.
    ///
    /// # Errors
    /// As [`PackedModule::load`].
    fn load(&self, file: Bytes, path: Path, device: &Device) -> Result<Box<dyn Module>, LoadError> {
        Ok(match path {
            Path::Live => Box::new(LiveModule::load(Engine::read(file)?, device)?),
            Path::Packed => Box::new(PackedModule::load(file, device)?),
        })
    }
}

/// This stack as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisStack;

impl Stack for ThisStack {}
