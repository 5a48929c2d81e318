//! Setting and getting the pipeline. What takes long (parsing, checking P4Info against the JSON) is
//! done in a [`Candidate`], away from the switch; the switch only swaps.

use prost::Message;
use signalbox_p4runtime::{
    Catalog, Code, RpcError,
    proto::p4::v1::{
        Entity, ForwardingPipelineConfig, GetForwardingPipelineConfigRequest,
        GetForwardingPipelineConfigResponse, SetForwardingPipelineConfigRequest, Update,
        get_forwarding_pipeline_config_request::ResponseType,
        set_forwarding_pipeline_config_request::Action, update,
    },
};

use super::{
    arbitration::StreamId,
    binding::Binding,
    layout::Layout,
    read,
    state::{DeviceState, Loaded, Notes, Saved},
    write::{self, Target},
};
use crate::{Micros, Pipeline, Switch};

/// A pipeline config that this switch can run.
#[derive(Debug)]
pub struct Candidate {
    loaded: Loaded,
    pipeline: Pipeline,
}

fn invalid(message: impl Into<String>) -> RpcError {
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
        let packet_in = Layout::of(catalog.header("packet_in").ok()).map_err(invalid)?;
        let packet_out = Layout::of(catalog.header("packet_out").ok()).map_err(invalid)?;
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
            (Action::VerifyAndSave, Some(Candidate { loaded, pipeline })) => {
                let mut shadow = Switch::new(switch.config().clone());
                shadow.swap(pipeline);
                self.saved = Some(Box::new(Saved {
                    loaded,
                    switch: shadow,
                }));
                Ok(())
            }
            (Action::VerifyAndCommit, Some(Candidate { loaded, pipeline })) => {
                switch.swap(pipeline);
                self.running = Some(loaded);
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

    /// Takes over the running state: builds the new switch beside the old one, and changes over only
    /// when all that is in the old one fitted into it.
    fn reconcile(
        &mut self,
        switch: &mut Switch,
        now: Micros,
        candidate: Candidate,
    ) -> Result<(), RpcError> {
        let Candidate {
            mut loaded,
            pipeline,
        } = candidate;
        if let Some(running) = &mut self.running {
            let same_info = running.config.p4info == loaded.config.p4info;
            if same_info && running.config.p4_device_config == loaded.config.p4_device_config {
                running.config.cookie = loaded.config.cookie;
                self.saved = None;
                return Ok(());
            }
        }
        let mut fresh = Switch::new(switch.config().clone());
        fresh.swap(pipeline);
        if let Some(running) = &self.running {
            let quirks = self.quirks();
            let mut target = Target {
                switch: &mut fresh,
                loaded: &mut loaded,
                now,
                quirks: crate::Quirks::default(),
                undo: None,
            };
            for update in snapshot(switch, running, now)? {
                write::apply(&mut target, &update).map_err(|refusal| {
                    invalid(format!(
                        "the running state does not fit into the new pipeline: {}: {}",
                        running.catalog.describe_update(&update),
                        refusal.message
                    ))
                })?;
            }
            target.quirks = quirks;
        }
        *switch = fresh;
        self.running = Some(loaded);
        self.saved = None;
        Ok(())
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

/// Everything a controller could have written, as the updates that write it again: what others
/// refer to comes first.
fn snapshot(switch: &Switch, loaded: &Loaded, now: Micros) -> Result<Vec<Update>, RpcError> {
    use signalbox_p4runtime::proto::p4::v1::{
        ActionProfileGroup, ActionProfileMember, CounterData, CounterEntry, DigestEntry,
        MeterConfig, MeterEntry, PacketReplicationEngineEntry, RegisterEntry, TableEntry,
        ValueSetEntry, entity::Entity as E, packet_replication_engine_entry as pre,
    };
    let with_direct = TableEntry {
        counter_data: Some(CounterData::default()),
        meter_config: Some(MeterConfig::default()),
        ..TableEntry::default()
    };
    let filters = [
        E::PacketReplicationEngineEntry(PacketReplicationEngineEntry {
            r#type: Some(pre::Type::MulticastGroupEntry(Default::default())),
        }),
        E::PacketReplicationEngineEntry(PacketReplicationEngineEntry {
            r#type: Some(pre::Type::CloneSessionEntry(Default::default())),
        }),
        E::ActionProfileMember(ActionProfileMember::default()),
        E::ActionProfileGroup(ActionProfileGroup::default()),
        E::TableEntry(with_direct),
        E::DigestEntry(DigestEntry::default()),
        E::ValueSetEntry(ValueSetEntry::default()),
        E::MeterEntry(MeterEntry::default()),
        E::CounterEntry(CounterEntry::default()),
        E::RegisterEntry(RegisterEntry::default()),
    ];
    let mut found: Vec<Entity> = Vec::new();
    for filter in &filters {
        read::one(
            switch,
            loaded,
            now,
            crate::Quirks::default(),
            Some(filter),
            &mut found,
        )?;
    }
    for info in loaded.catalog.tables.iter() {
        // A constant default action is the new program's own, and so is that of a profile's table.
        if info.const_default_action.is_some() || info.profile.is_some() {
            continue;
        }
        let filter = E::TableEntry(TableEntry {
            table_id: info.id,
            is_default_action: true,
            ..TableEntry::default()
        });
        read::one(
            switch,
            loaded,
            now,
            crate::Quirks::default(),
            Some(&filter),
            &mut found,
        )?;
    }
    let update = |entity: Entity| {
        let kind = match entity.entity.as_ref()? {
            E::TableEntry(entry) if entry.is_const => return None,
            E::TableEntry(entry) if entry.is_default_action => {
                entry.action.as_ref()?;
                update::Type::Modify
            }
            E::CounterEntry(entry) if entry.data == Some(CounterData::default()) => return None,
            E::MeterEntry(entry) if entry.config.is_none() => return None,
            E::ValueSetEntry(set) if set.members.is_empty() => return None,
            E::CounterEntry(_) | E::MeterEntry(_) | E::RegisterEntry(_) | E::ValueSetEntry(_) => {
                update::Type::Modify
            }
            _ => update::Type::Insert,
        };
        Some(Update {
            r#type: kind as i32,
            entity: Some(entity),
        })
    };
    Ok(found.into_iter().filter_map(update).collect())
}
