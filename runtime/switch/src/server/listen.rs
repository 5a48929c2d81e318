//! The gRPC server before one switch, with TLS as simple_switch_grpc's flags have it.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use signalbox_p4runtime::grpc::{CONNECTION_WINDOW, MAX_METADATA, STREAM_WINDOW, Service};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::Device;

/// Where keys and certificates are, in PEM: `--grpc-server-ssl` and its companions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate (`--grpc-server-cert`).
    pub certificate: PathBuf,
    /// The server's key (`--grpc-server-key`).
    pub key: PathBuf,
    /// Who signs clients' certificates (`--grpc-server-cacert`).
    pub ca_certificate: Option<PathBuf>,
    /// Whether clients must have a certificate (`--grpc-server-with-client-auth`).
    pub client_auth: bool,
}

/// Where and how to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// Port 0 takes any free one.
    pub address: SocketAddr,
    /// Without it, only loopback addresses are taken, unless `exposed` says otherwise.
    pub tls: Option<TlsFiles>,
    /// Listens beyond loopback even without keys.
    pub exposed: bool,
}

/// The server could not start.
#[derive(Debug, Error)]
pub enum ListenError {
    /// An address that others reach, without keys.
    #[error("{0} is reachable from elsewhere: give keys and certificates, or a loopback address")]
    Exposed(SocketAddr),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// A key or certificate cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Keys and certificates do not make TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// Clients are to have certificates, and nobody is named who signs them.
    #[error("client authentication needs a CA certificate")]
    NoCa,
}

/// A server that listens. When this is dropped it takes no more connections, ends its streams and
/// finishes the calls that are open.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    /// Dropped to stop: the one ends the listener, the other the streams.
    stop: (oneshot::Sender<()>, watch::Sender<()>),
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Listening {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops, and waits until open calls are over.
    ///
    /// # Errors
    /// What went wrong while serving.
    pub async fn stop(self) -> Result<(), tonic::transport::Error> {
        drop(self.stop);
        match self.task.await {
            Ok(result) => result,
            // Nobody cancels it, and it does not panic.
            Err(_) => Ok(()),
        }
    }
}

/// Offers P4Runtime, and with `dataplane` bmv2's DataplaneInterface on the same address.
///
/// # Errors
/// The address or the keys are not usable.
pub async fn listen(
    device: Device,
    dataplane: Option<crate::dataplane::Dataplane>,
    options: ListenOptions,
) -> Result<Listening, ListenError> {
    let mut server = Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_METADATA);
    match &options.tls {
        Some(files) => {
            let tls = tls_config(files)?;
            server = server
                .tls_config(tls)
                .map_err(|error| ListenError::Tls(innermost(&error)))?;
        }
        None if !options.exposed && !options.address.ip().is_loopback() => {
            return Err(ListenError::Exposed(options.address));
        }
        None => {}
    }
    let bind_error = |error| ListenError::Bind {
        address: options.address,
        error,
    };
    let listener = TcpListener::bind(options.address)
        .await
        .map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let (stop_streams, running) = watch::channel(());
    let router = server
        .add_service(Service::new(Arc::new(device), running))
        .add_optional_service(dataplane.map(crate::dataplane::Dataplane::into_service));
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(router.serve_with_incoming_shutdown(
        TcpListenerStream::new(listener),
        async {
            // A dropped sender means stop as well.
            let _ = stopped.await;
        },
    ));
    Ok(Listening {
        address,
        stop: (stop, stop_streams),
        task,
    })
}

fn read(path: &PathBuf) -> Result<Vec<u8>, ListenError> {
    std::fs::read(path).map_err(|error| ListenError::File {
        path: path.clone(),
        error,
    })
}

fn tls_config(files: &TlsFiles) -> Result<ServerTlsConfig, ListenError> {
    let identity = Identity::from_pem(read(&files.certificate)?, read(&files.key)?);
    let mut tls = ServerTlsConfig::new().identity(identity);
    if files.client_auth {
        let ca = files.ca_certificate.as_ref().ok_or(ListenError::NoCa)?;
        tls = tls.client_ca_root(Certificate::from_pem(read(ca)?));
    }
    Ok(tls)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
