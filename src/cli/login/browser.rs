//! OAuth authorization in the browser. The user opens the consent page; the authorization code arrives at
//! a listener on loopback, or the user pastes the redirect URL.

use std::{
    io,
    process::{Command, Stdio},
};

use tokio::time::Instant;

use super::{
    error::Error,
    listener::{Arrival, Listener},
    options::Options,
    page::{PageKind, ResultPage},
    redirect::{AuthorizationOutcome, Nonce, Redirect, consent_url, loopback_url},
};
use crate::{
    cli::{output::print_progress, prompt::Terminal, remediation::Remediation},
    hubspot::OAuthApp,
};
use leadsd_base::secret::Secret;

/// Programs that open a URL in the default browser, in the order in which they are tried.
const OPENERS: [&str; 2] =
    if cfg!(target_os = "macos") { ["open", "xdg-open"] } else { ["xdg-open", "open"] };

/// Authorization request in progress.
pub(super) struct Browser {
    /// Redirect URL, which must be registered with the app.
    pub(super) redirect: String,
    nonce: Nonce,
    /// `None` if the user pastes the URL.
    listener: Option<Listener>,
    /// Browser request that waits for its final page.
    arrival: Option<Arrival>,
}

// === impl Browser ===

impl Browser {
    /// Binds the port, unless the user pastes the URL.
    pub(super) async fn new(options: &Options) -> Result<Self, Error> {
        let nonce = Nonce::new();
        if options.no_browser {
            let given = options.redirect_url.as_ref().map(url::Url::to_string);
            let redirect = given.unwrap_or_else(|| loopback_url(options.redirect_port));
            return Ok(Self { redirect, nonce, listener: None, arrival: None });
        }
        let port = options.redirect_port;
        let listener = Listener::bind(port).await.map_err(|error| port_error(port, &error))?;
        let redirect = loopback_url(listener.port);
        Ok(Self { redirect, nonce, listener: Some(listener), arrival: None })
    }

    /// Opens the consent page and waits for the authorization code.
    pub(super) async fn obtain_code(
        &mut self,
        base: &url::Url,
        app: &OAuthApp,
        options: &Options,
        terminal: &mut Terminal,
    ) -> Result<Secret, Error> {
        let url = consent_url(base, &app.client_id, &self.redirect, &options.scopes, &self.nonce);
        print_progress(&format!("The app must have this redirect URL: {}", self.redirect));
        print_progress(&format!(
            "Open this page, choose the account and grant access:\n\n  {url}\n"
        ));
        if options.no_browser {
            let pasted =
                terminal.secret("URL that the browser was redirected to, or its code").await?;
            return self.code_from_text(&pasted);
        }
        if !open(url.as_str()) {
            print_progress("Cannot open a browser; open the page yourself.");
            print_progress("On a machine without a browser, use --no-browser.");
        }
        self.wait_for_redirect(options).await
    }

    /// Waits for the redirect with the authorization code.
    async fn wait_for_redirect(&mut self, options: &Options) -> Result<Secret, Error> {
        let until = Instant::now() + options.wait;
        let Some(listener) = &mut self.listener else { return Err(self.timeout_error(options)) };
        while let Some(arrival) = listener.next(until).await {
            match arrival.redirect.clone().evaluate(&self.nonce) {
                AuthorizationOutcome::WrongState => {
                    print_progress(
                        "Ignored a redirect of another login (wrong state); still waiting.",
                    );
                    let text = "Its state parameter is not the one that leadsd sent. Use the newest \
                                page that leadsd login has opened or printed.";
                    arrival.reply(ResultPage::new(
                        PageKind::Error,
                        "Redirect of another login",
                        text,
                    ));
                }
                AuthorizationOutcome::Denied => {
                    let text = "Access was not granted. Nothing was stored.";
                    arrival.reply(ResultPage::new(PageKind::Denied, "Not connected", text));
                    return Err(access_denied().into());
                }
                outcome @ (AuthorizationOutcome::Code(_)
                | AuthorizationOutcome::Error(..)
                | AuthorizationOutcome::Empty) => {
                    self.arrival = Some(arrival);
                    return code(outcome);
                }
            }
        }
        Err(self.timeout_error(options))
    }

    /// Authorization code in a pasted text. A bare code has no state to verify.
    fn code_from_text(&self, pasted: &Secret) -> Result<Secret, Error> {
        match Redirect::from_url(pasted.expose()) {
            None => Ok(pasted.clone()),
            Some(redirect) => code(redirect.evaluate(&self.nonce)),
        }
    }

    /// Sends the final page to the waiting browser, if any, and releases the port.
    pub(super) async fn finish(self, page: ResultPage) {
        if let Some(arrival) = self.arrival {
            arrival.reply(page);
        }
        if let Some(listener) = self.listener {
            listener.close().await;
        }
    }

    fn timeout_error(&self, options: &Options) -> Error {
        let fix = format!(
            "run leadsd login again; if HubSpot's page shows an error, check the client id, and that \
             the app has the redirect URL {} and the scopes {}",
            self.redirect,
            options.scopes.join(", ")
        );
        let cause = format!("no redirect from HubSpot within {:?}", options.wait);
        Remediation::new(cause, fix).into()
    }
}

fn code(outcome: AuthorizationOutcome) -> Result<Secret, Error> {
    match outcome {
        AuthorizationOutcome::Code(code) => Ok(code),
        AuthorizationOutcome::Denied => Err(access_denied().into()),
        AuthorizationOutcome::Error(code, text) => Err(Remediation::new(
            format!("HubSpot returned an error instead of a code: {code} {text}"),
            "check the app's scopes and redirect URLs, and whether the account may install it",
        )
        .into()),
        AuthorizationOutcome::WrongState => Err(Remediation::new(
            "the URL belongs to another login: its state is not the one that was sent",
            "use the page that this run of leadsd login has printed",
        )
        .into()),
        AuthorizationOutcome::Empty => Err(Remediation::new(
            "the redirect contains no code",
            "copy the whole URL of the page that the browser was redirected to",
        )
        .into()),
    }
}

fn access_denied() -> Remediation {
    Remediation::new(
        "access was denied on HubSpot's consent page; nothing was stored",
        "run leadsd login again and grant access, as a user who may install apps (super admin, or \
         App Marketplace access)",
    )
}

fn port_error(port: u16, error: &io::Error) -> Remediation {
    let cause = format!("cannot listen on 127.0.0.1:{port}: {error}");
    let fix = "stop the process that uses the port, or choose another with --redirect-port and \
               register its redirect URL with the app; --no-browser needs no port";
    Remediation::new(cause, fix)
}

/// Opens the URL in the default browser; returns false if no program could be started.
fn open(url: &str) -> bool {
    OPENERS.into_iter().any(|opener| {
        let mut command = Command::new(opener);
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    })
}
