//! What `run --model FILE` means as layers: a service named by the file, served and burst as the quickstart profile
//! does with its own.

use std::path::Path;

use config::{Value, ValueKind};

use crate::layers::Stack;
use crate::name::ServiceName;
use crate::origin::Origin;
use crate::profile::Profile;
use crate::toml_layer::Table;

/// The profile's service that a user's model takes the place of.
const QUICKSTART_SERVICE: &str = "digits";

/// What marks a compiled-in model where a path could stand.
pub(crate) const BUILTIN_PREFIX: &str = "builtin:";

/// The layer under the file: with `whole` the quickstart profile with its service renamed, else only the local part,
/// since the file says where to burst.
pub(crate) fn beneath(stack: &mut Stack, model: &Path, whole: bool) -> Table {
    let Some(name) = service_name(model) else {
        let advice = "leaves no letter or digit to name a service by; rename the file, as in `model.onnx`".to_owned();
        stack.problem("--model", Some(format!("{:?}", model.display().to_string())), advice, Origin::CommandLine);
        return Table::new();
    };
    let mut profile = stack.profile_table(Profile::Quickstart);
    let service = profile.get_mut("service").and_then(|services| take(services, QUICKSTART_SERVICE));
    let mut service = service.expect("the quickstart profile has its service");
    if !whole {
        profile.clear();
        keep_local(&mut service);
    }
    let services = Table::from([(name.as_str().to_owned(), service)]);
    profile.insert("service".to_owned(), Value::new(None, ValueKind::Table(services)));
    profile
}

/// The layer over everything: the model that was asked for by name is the one that is served.
pub(crate) fn point_at(stack: &mut Stack, model: &Path) {
    let Some(name) = service_name(model) else { return };
    let key = ["service", name.as_str(), "local", "model"].map(str::to_owned);
    match model.to_str() {
        Some(path) => stack.text(&key, path, Origin::CommandLine),
        None => {
            let advice = "must be a path in UTF-8; rename the file".to_owned();
            stack.problem("--model", None, advice, Origin::CommandLine);
        }
    }
}

fn service_name(model: &Path) -> Option<ServiceName> {
    let stem = model.file_stem()?.to_string_lossy();
    ServiceName::of_stem(stem.strip_prefix(BUILTIN_PREFIX).unwrap_or(&stem))
}

fn take(table: &mut Value, key: &str) -> Option<Value> {
    match &mut table.kind {
        ValueKind::Table(table) => table.remove(key),
        _ => None,
    }
}

fn keep_local(service: &mut Value) {
    if let ValueKind::Table(table) = &mut service.kind {
        table.retain(|key, _| key == "local");
    }
}
