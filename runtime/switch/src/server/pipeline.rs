//! Setting and getting the pipeline. What takes long (parsing, checking P4Info against the JSON) is
//! done in a [`Candidate`], away from the switch; the switch only swaps.

use prost::Message;
use signalbox_p4runtime::{
    Catalog, Code, RpcError,
    proto::p4::v1::{
        ForwardingPipelineConfig, GetForwardingPipelineConfigRequest,
        GetForwardingPipelineConfigResponse, SetForwardingPipelineConfigRequest,
        get_forwarding_pipeline_config_request::ResponseType,
        set_forwarding_pipeline_config_request::Action,
    },
};

use super::{
    arbitration::StreamId,
    binding::Binding,
    layout::Layout,
    state::{DeviceState, Loaded, Notes, Saved},
    write,
};
use crate::{Micros, Pipeline, Switch};

/// A pipeline config that this switch can run.
#[derive(Debug)]
pub struct Candidate {
    loaded: Loaded,
    pipeline: Pipeline,
}

impl Candidate {
    /// Gives the pipeline to a switch, with what only P4Info knows: the JSON does not say whether a
    /// table's entries are constant, or may be written like any others ("Preinitialized tables").
    pub(super) fn start(self, switch: &mut Switch) -> Loaded {
        switch.swap(self.pipeline);
        for table in self.loaded.binding.tables.values() {
            // The binding knows the table from this very pipeline.
            let _ = switch.table_set_const(table.core, table.info.is_const);
            if table.initial && !table.info.is_const {
                let size = usize::try_from(table.info.size).unwrap_or(usize::MAX);
                let least = switch.table_len(table.core).unwrap_or(0);
                let _ = switch.table_set_capacity(table.core, size.max(least));
            }
        }
        self.loaded
    }

    pub(super) fn config(&self) -> &ForwardingPipelineConfig {
        &self.loaded.config
    }
}

pub(super) fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(Code::InvalidArgument, message)
}

/// bmv2's wrapper around its JSON, which older controllers send.
#[derive(Clone, PartialEq, prost::Message)]
struct DeviceConfig {
    #[prost(bool, tag = "1")]
    reassign: bool,
    #[prost(bytes = "vec", tag = "3")]
    device_data: Vec<u8>,
}

/// The JSON in a device config: bare, or in bmv2's wrapper.
fn json_of(config: &[u8]) -> Result<String, RpcError> {
    let bare = config
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_some_and(|byte| *byte == b'{');
    let bytes = if bare {
        config.to_vec()
    } else {
        match DeviceConfig::decode(config) {
            Ok(wrapped) if !wrapped.device_data.is_empty() => wrapped.device_data,
            _ => {
                return Err(invalid(
                    "`p4_device_config` is not a bmv2 JSON: it does not begin with `{`",
                ));
            }
        }
    };
    String::from_utf8(bytes)
        .map_err(|error| invalid(format!("`p4_device_config` is not UTF-8: {error}")))
}

impl Candidate {
    /// Compiles a pipeline config and checks that its two halves belong together.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with the place.
    pub fn prepare(config: ForwardingPipelineConfig) -> Result<Candidate, RpcError> {
        let info = config
            .p4info
            .clone()
            .ok_or_else(|| invalid("the pipeline config has no P4Info"))?;
        let catalog = Catalog::new(info).map_err(|error| invalid(format!("P4Info: {error}")))?;
        let json = json_of(&config.p4_device_config)?;
        let pipeline = Pipeline::parse(&json)
            .map_err(|error| invalid(format!("p4_device_config: {error}")))?;
        let binding = Binding::new(&catalog, pipeline.schema()).map_err(invalid)?;
        let headers = &pipeline.schema().headers;
        let packet_in = Layout::of(catalog.header("packet_in").ok(), headers).map_err(invalid)?;
        let packet_out = Layout::of(catalog.header("packet_out").ok(), headers).map_err(invalid)?;
        Ok(Candidate {
            loaded: Loaded {
                config,
                catalog,
                binding,
                packet_in,
                packet_out,
                notes: Notes::default(),
            },
            pipeline,
        })
    }
}

impl DeviceState {
    /// Whether a controller may set the pipeline, and what it asks for. To be called before a
    /// [`Candidate`] is prepared and again when it is installed.
    ///
    /// # Errors
    /// NOT_FOUND or PERMISSION_DENIED, or INVALID_ARGUMENT for an action that is none.
    pub fn check_set_pipeline(
        &self,
        request: &SetForwardingPipelineConfigRequest,
    ) -> Result<Action, RpcError> {
        self.arbiter.check_writer(
            request.device_id,
            &request.role,
            request.election_id.as_ref(),
        )?;
        let action = Action::try_from(request.action).unwrap_or(Action::Unspecified);
        match (action, request.config.is_some()) {
            (Action::Unspecified, _) => Err(invalid("the request has no action")),
            (Action::Commit, true) => Err(invalid("COMMIT takes no pipeline config")),
            (Action::Commit, false) if self.saved.is_none() => Err(RpcError::new(
                Code::NotFound,
                "no pipeline config was saved that could be committed",
            )),
            (Action::Commit, false) | (_, true) => Ok(action),
            (_, false) => Err(invalid("the request has no pipeline config")),
        }
    }

    /// Does what the request asks, with the prepared pipeline.
    ///
    /// # Errors
    /// As [`DeviceState::check_set_pipeline`]; INVALID_ARGUMENT when RECONCILE_AND_COMMIT would
    /// lose state. Then nothing has changed.
    pub fn set_pipeline(
        &mut self,
        switch: &mut Switch,
        now: Micros,
        request: &SetForwardingPipelineConfigRequest,
        candidate: Option<Candidate>,
    ) -> Result<(), RpcError> {
        let action = self.check_set_pipeline(request)?;
        match (action, candidate) {
            (Action::Verify, Some(_)) => Ok(()),
            (Action::VerifyAndSave, Some(candidate)) => {
                let mut shadow = Switch::new(switch.config().clone());
                let loaded = candidate.start(&mut shadow);
                self.saved = Some(Box::new(Saved {
                    loaded,
                    switch: shadow,
                }));
                Ok(())
            }
            (Action::VerifyAndCommit, Some(candidate)) => {
                self.running = Some(candidate.start(switch));
                self.saved = None;
                Ok(())
            }
            (Action::Commit, _) => {
                if let Some(saved) = self.saved.take() {
                    let Saved {
                        loaded,
                        switch: shadow,
                    } = *saved;
                    *switch = shadow;
                    self.running = Some(loaded);
                }
                Ok(())
            }
            (Action::ReconcileAndCommit, Some(candidate)) => self.reconcile(switch, now, candidate),
            (_, _) => Err(invalid("the request has no pipeline config")),
        }
    }

    /// The GetForwardingPipelineConfig call. Before any pipeline was set, the answer is empty.
    ///
    /// # Errors
    /// NOT_FOUND for another device.
    pub fn get_pipeline(
        &self,
        request: &GetForwardingPipelineConfigRequest,
    ) -> Result<GetForwardingPipelineConfigResponse, RpcError> {
        self.arbiter.check_device(request.device_id)?;
        let Some(running) = &self.running else {
            if self.quirks().no_pi_extensions {
                return Err(write::no_pipeline());
            }
            return Ok(GetForwardingPipelineConfigResponse { config: None });
        };
        let config = &running.config;
        let parts = ResponseType::try_from(request.response_type).map_err(|_| {
            invalid(format!(
                "there is no response type {}",
                request.response_type
            ))
        })?;
        let (info, device) = match parts {
            ResponseType::All => (true, true),
            ResponseType::CookieOnly => (false, false),
            ResponseType::P4infoAndCookie => (true, false),
            ResponseType::DeviceConfigAndCookie => (false, true),
        };
        Ok(GetForwardingPipelineConfigResponse {
            config: Some(ForwardingPipelineConfig {
                p4info: info.then(|| config.p4info.clone()).flatten(),
                p4_device_config: if device {
                    config.p4_device_config.clone()
                } else {
                    Vec::new()
                },
                cookie: config.cookie,
            }),
        })
    }

    /// Whether a stream is its role's primary; for status displays.
    pub fn is_primary(&self, stream: StreamId) -> bool {
        self.arbiter.is_primary(stream)
    }
}
