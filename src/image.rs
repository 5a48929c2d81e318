//! From a checked policy to what a target takes: P4 text, plan, image.

use signalbox_agent::shell::Pipeline;
use signalbox_lower::planning::CPU_PORT;
use signalbox_lower::{Lowered, lower_for};
use signalbox_p4::source::MapSources;
use signalbox_p4::{Image, Options};
use signalbox_policy::model::Policy;

use crate::failure::Failure;

/// A policy with everything that was made of it.
#[derive(Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// P4 text and plan.
    pub lowered: Lowered,
    /// bmv2 JSON and P4Info.
    pub image: Image,
}

impl Compiled {
    /// What has a target run it.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::Push {
            device_config: self.image.json.clone().into_bytes(),
        }
    }
}

/// Lowers a policy and compiles the P4 that comes out. There is no other road into a target.
///
/// # Errors
/// [`Failure::Input`] when the policy has more than the pipeline can hold, or when the generated P4 does
/// not compile, which is a fault of ours: its diagnostics are the text.
pub fn compile(policy: Policy) -> Result<Compiled, Failure> {
    compile_for(policy, CPU_PORT)
}

/// The same for a target with that CPU port.
///
/// # Errors
/// As [`compile`]; and when the policy or v1model leaves no room for that port.
pub fn compile_for(policy: Policy, cpu_port: u16) -> Result<Compiled, Failure> {
    let lowered = lower_for(&policy, cpu_port)
        .map_err(|error| Failure::Input(format!("signalbox: {error}")))?;
    let main = format!("{}.p4", policy.name);
    let mut sources = MapSources::new().with(main.as_str(), lowered.p4.as_str());
    for (name, text) in &lowered.sources {
        sources.insert(name.as_str(), text.as_str());
    }
    match signalbox_p4::compile(&sources, &main, &Options::default()) {
        Ok(compiled) => Ok(Compiled {
            policy,
            lowered,
            image: compiled.image,
        }),
        Err(failed) => Err(Failure::Input(
            failed.diagnostics.render_short(&failed.sources),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_and_its_services_may_have_the_names_of_what_p4_includes() {
        let compiled = |file: &str, service: &str| {
            let text = format!(
                "network {{ port 1 a {{ address 10.0.1.1/24 }} }}\nservice {service} : filter {{ deny udp }}\n"
            );
            let checked = signalbox_policy::check(&text, file);
            compile(checked.policy.unwrap()).map(|c| c.policy.name)
        };
        assert_eq!(compiled("core.policy", "f").unwrap(), "core_policy");
        assert_eq!(compiled("v1model.policy", "f").unwrap(), "v1model_policy");
        for service in ["_CORE_P4_", "V1MODEL_VERSION", "__LINE__", "core"] {
            assert_eq!(compiled("net.policy", service).unwrap(), "net", "{service}");
        }
    }
}
