//! The model and what it wants: loading it, its inputs and outputs as declared, running it.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use rten::{Dimension, Model, NodeId, RunErrorKind, RunOptions, ThreadPool, Value};

use super::datatype::{Datatype, ElementType};
use super::error::InferError;
use super::onnx_file;

/// The built-in models begin with this instead of being a path.
const BUILTIN_PREFIX: &str = "builtin:";

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// An ONNX file; weights in external files are found beside it.
    File(PathBuf),
    /// An ONNX file that was fetched; its weights are all in it.
    Fetched {
        /// Where it came from.
        url: String,
        /// The file.
        bytes: Arc<Vec<u8>>,
    },
    /// Compiled into the program.
    Builtin {
        /// Its name after `builtin:`.
        name: &'static str,
        /// The ONNX bytes.
        bytes: &'static [u8],
    },
}

impl ModelSource {
    /// Reads a command line argument: a path, or `builtin:digits`.
    ///
    /// # Errors
    /// No built-in model has that name.
    pub fn parse(argument: &str) -> Result<Self, LoadError> {
        match argument.strip_prefix(BUILTIN_PREFIX) {
            Some("digits") => Ok(Self::Builtin { name: "digits", bytes: edge_config::models::DIGITS_ONNX }),
            Some(name) => Err(LoadError::UnknownBuiltin { name: name.to_owned() }),
            None => Ok(Self::File(PathBuf::from(argument))),
        }
    }

    /// The name that the model gets unless the user gives one: the file's stem.
    pub fn default_name(&self) -> String {
        match self {
            Self::File(path) => {
                path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned())
            }
            // The last part of the address, as that of a file.
            Self::Fetched { url, .. } => {
                let file = url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                file.strip_suffix(".onnx").unwrap_or(file).to_owned()
            }
            Self::Builtin { name, .. } => (*name).to_owned(),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Fetched { url, .. } => url.clone(),
            Self::Builtin { name, .. } => format!("{BUILTIN_PREFIX}{name}"),
        }
    }
}

/// Why a model cannot be served. Every message names the model and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not there, or not readable.
    #[error("cannot read model '{model}': {reason}; give the path of a readable ONNX file")]
    Unreadable {
        /// The model as the user named it.
        model: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// There, but not a model that the engine can run.
    #[error(
        "cannot load model '{model}': {reason}; check that the file is complete, ends in .onnx and uses ONNX operators"
    )]
    Corrupt {
        /// The model as the user named it.
        model: String,
        /// What the engine said.
        reason: String,
    },
    /// An input or output has an element type that the engine cannot hold.
    #[error(
        "cannot serve model '{model}': tensor '{tensor}' has element type {element}; export it with FLOAT, DOUBLE, \
         INT64, INT32, INT8, UINT8 or BOOL inputs and outputs"
    )]
    UnsupportedTensor {
        /// The model as the user named it.
        model: String,
        /// The input or output.
        tensor: String,
        /// The ONNX element type.
        element: &'static str,
    },
    /// The thread that loaded it is gone.
    #[error("loading the model was abandoned; check the memory that this box has left")]
    Abandoned,
    /// `builtin:` with a name that is none of ours.
    #[error(
        "there is no built-in model '{name}'; the built-in model is 'builtin:digits', anything else is a file path"
    )]
    UnknownBuiltin {
        /// What was asked for.
        name: String,
    },
}

/// One input or output as the model declares it.
#[derive(Clone, Debug)]
pub(super) struct TensorSpec {
    pub(super) name: String,
    pub(super) node: NodeId,
    pub(super) datatype: Datatype,
    /// One size per dimension, `None` for a dynamic one. No vector: the model declares no shape.
    pub(super) shape: Option<Vec<Option<usize>>>,
}

impl TensorSpec {
    /// The shape as the protocol writes it: -1 for a dynamic dimension.
    pub(super) fn protocol_shape(&self) -> Vec<i64> {
        let sizes = self.shape.as_deref().unwrap_or(&[None]);
        sizes.iter().map(|size| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1)).collect()
    }

    /// Whether a tensor of this shape fits.
    pub(super) fn admits(&self, shape: &[usize]) -> bool {
        self.shape.as_ref().is_none_or(|declared| {
            declared.len() == shape.len()
                && declared.iter().zip(shape).all(|(declared, given)| declared.is_none_or(|size| size == *given))
        })
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct Engine {
    model: Model,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl Engine {
    /// Loads a model and reads what it wants.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(source: &ModelSource) -> Result<Self, LoadError> {
        let file = read(source)?;
        onnx_file::check(&file).map_err(|malformed| corrupt(source, malformed.to_string()))?;
        let model = instantiate(source)?;
        let inputs = specs(source, &model, model.input_ids(), &file)?;
        let outputs = specs(source, &model, model.output_ids(), &file)?;
        // An empty file is a valid protobuf message of an empty model.
        if outputs.is_empty() {
            return Err(corrupt(source, "it has no outputs, so there is nothing to answer with".to_owned()));
        }
        Ok(Self { model, inputs, outputs })
    }

    pub(super) fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    pub(super) fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Runs the model on the given threads. An operator that panics costs this call only.
    pub(super) fn run(
        &self,
        inputs: Vec<(NodeId, Value)>,
        outputs: &[NodeId],
        threads: &Arc<ThreadPool>,
    ) -> Result<Vec<Value>, InferError> {
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(threads)));
        let inputs = inputs.into_iter().map(|(node, value)| (node, value.into())).collect();
        // Unwind safe: the model is immutable while it runs, and its buffers belong to the run.
        let run = catch_unwind(AssertUnwindSafe(|| self.model.run(inputs, outputs, Some(options))));
        match run {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) if error.kind() == RunErrorKind::InvalidInput => Err(InferError::Invalid(error.to_string())),
            Ok(Err(error)) => Err(InferError::Failed(format!("the model failed: {error}"))),
            Err(_) => Err(InferError::Failed("the model panicked on this input".to_owned())),
        }
    }
}

fn corrupt(source: &ModelSource, reason: String) -> LoadError {
    LoadError::Corrupt { model: source.describe(), reason }
}

/// The whole file. The engine reads it again, since it finds external weights by the path; ours is dropped after.
fn read(source: &ModelSource) -> Result<Cow<'_, [u8]>, LoadError> {
    match source {
        ModelSource::Fetched { bytes, .. } => Ok(Cow::Borrowed(bytes)),
        ModelSource::Builtin { bytes, .. } => Ok(Cow::Borrowed(bytes)),
        ModelSource::File(path) => match std::fs::read(path) {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(reason) => Err(LoadError::Unreadable { model: source.describe(), reason }),
        },
    }
}

fn instantiate(source: &ModelSource) -> Result<Model, LoadError> {
    // The loader asserts what a valid file has; a hostile or broken one must be an error here, not a crash.
    let loaded = catch_unwind(|| match source {
        ModelSource::Builtin { bytes, .. } => Model::load_static_slice(bytes),
        ModelSource::Fetched { bytes, .. } => Model::load(bytes.to_vec()),
        ModelSource::File(path) => Model::load_file(path),
    });
    let reason = match loaded {
        Ok(Ok(model)) => return Ok(model),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the graph contradicts itself".to_owned(),
    };
    Err(corrupt(source, reason))
}

fn specs(source: &ModelSource, model: &Model, nodes: &[NodeId], file: &[u8]) -> Result<Vec<TensorSpec>, LoadError> {
    nodes.iter().map(|node| spec(source, model, *node, file)).collect()
}

fn spec(source: &ModelSource, model: &Model, node: NodeId, file: &[u8]) -> Result<TensorSpec, LoadError> {
    let info = model.node_info(node);
    let name = info.as_ref().and_then(rten::NodeInfo::name).unwrap_or_default().to_owned();
    let element = onnx_file::element_type(file, &name);
    let Some(datatype) = element.and_then(Datatype::from_onnx) else {
        let element = element.map_or("not declared", ElementType::name);
        return Err(LoadError::UnsupportedTensor { model: source.describe(), tensor: name, element });
    };
    let shape = info.and_then(|info| info.shape()).map(|sizes| sizes.iter().map(fixed_size).collect());
    Ok(TensorSpec { name, node, datatype, shape })
}

fn fixed_size(dimension: &Dimension) -> Option<usize> {
    match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Symbolic(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_with_flipped_bytes_is_an_error_or_a_model_and_never_the_end() {
        let mut random = fastrand::Rng::with_seed(1797);
        for round in 0..200 {
            let mut bytes = edge_config::models::DIGITS_ONNX.to_vec();
            // The graph's outline stands at both ends; weights fill the middle.
            for _ in 0..random.usize(1..8) {
                let from_start = random.usize(0..4000);
                let index = if random.bool() { from_start } else { bytes.len() - 1 - from_start };
                bytes[index] ^= 1 << random.u8(0..8);
            }
            let loaded = Engine::load(&ModelSource::Builtin { name: "flipped", bytes: bytes.leak() });
            if let Err(error) = loaded {
                assert!(error.to_string().contains("flipped"), "round {round}: {error}");
            }
        }
    }
}
