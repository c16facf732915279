//! Connection to leadsd: one or several addresses, plain text or TLS with a bearer token.

use std::{error::Error, fs, path::PathBuf, time::Duration};

use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::Interceptor,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// Timeout for response headers, for calls without another deadline.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum size of a response: at least `grpc.max_response_size` of leadsd, whose default fits every
/// client.
pub const MAX_RESPONSE_SIZE: usize = 64 << 20;

/// Address and credentials of leadsd.
#[derive(Debug, Clone, clap::Args)]
pub struct Server {
    /// One address, or several with commas.
    #[arg(long, default_value = "127.0.0.1:50051", value_delimiter = ',')]
    pub address: Vec<String>,
    /// PEM file of the CA of the service; turns TLS on.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// Name in the certificate.
    #[arg(long, default_value = "localhost")]
    pub server_name: String,
    /// File with the bearer token, read for every call. It needs TLS.
    #[arg(long, requires = "ca_file")]
    pub token_file: Option<PathBuf>,
}

/// Metadata of every call.
#[derive(Debug, Clone)]
pub struct Caller {
    pub metadata: Vec<(&'static str, String)>,
    pub token_file: Option<PathBuf>,
}

impl Server {
    /// A channel that spreads its calls over all addresses: each goes to the less busy one of two.
    /// tonic takes a list and no service config; it does not look names up again by itself.
    pub fn connect(&self) -> Result<Channel, Box<dyn Error>> {
        let endpoints: Result<Vec<_>, _> =
            self.address.iter().map(|address| self.endpoint(address)).collect();
        Ok(Channel::balance_list(endpoints?.into_iter()))
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, Box<dyn Error>> {
        let Some(ca_file) = &self.ca_file else {
            return Ok(Endpoint::from_shared(format!("http://{address}"))?.timeout(TIMEOUT));
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(fs::read(ca_file)?))
            .domain_name(&self.server_name);
        Ok(Endpoint::from_shared(format!("https://{address}"))?.timeout(TIMEOUT).tls_config(tls)?)
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let text = |text: &str| {
            MetadataValue::try_from(text).map_err(|_| Status::internal("metadata that is no text"))
        };
        for (name, value) in &self.metadata {
            request.metadata_mut().insert(*name, text(value)?);
        }
        // Read for every call, so that a rotated token is used immediately.
        if let Some(file) = &self.token_file {
            let token = fs::read_to_string(file)
                .map_err(|error| Status::unauthenticated(format!("{}: {error}", file.display())))?;
            request
                .metadata_mut()
                .insert("authorization", text(&format!("Bearer {}", token.trim()))?);
        }
        Ok(request)
    }
}
