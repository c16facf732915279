//! Authorization in the browser: the person opens the consent page, and the code comes back to a listener
//! on loopback, or in a URL that is pasted.

use std::{
    io,
    process::{Command, Stdio},
};

use tokio::time::Instant;

use super::{
    error::Error,
    listener::{Arrival, Listener},
    options::Options,
    page::{Kind, Page},
    redirect::{Answer, Nonce, Redirect, consent_url, on_loopback},
};
use crate::{
    cli::{output::say, prompt::Terminal, remediation::Remediation},
    hubspot::OAuthApp,
};
use leadsd_base::secret::Secret;

/// Programs that open a URL in the default browser.
const OPENERS: [&str; 2] =
    if cfg!(target_os = "macos") { ["open", "xdg-open"] } else { ["xdg-open", "open"] };

/// One authorization request.
pub(super) struct Browser {
    /// The redirect URL that the app must have.
    pub(super) redirect: String,
    nonce: Nonce,
    /// `None` if the URL is pasted.
    listener: Option<Listener>,
    /// The browser that waits for its last page, if one does.
    arrival: Option<Arrival>,
}

// === impl Browser ===

impl Browser {
    /// Binds the port, unless the URL is to be pasted.
    pub(super) async fn new(options: &Options) -> Result<Self, Error> {
        let nonce = Nonce::new();
        if options.no_browser {
            let given = options.redirect_url.as_ref().map(url::Url::to_string);
            let redirect = given.unwrap_or_else(|| on_loopback(options.redirect_port));
            return Ok(Self { redirect, nonce, listener: None, arrival: None });
        }
        let port = options.redirect_port;
        let listener = Listener::bind(port).await.map_err(|error| port_error(port, &error))?;
        let redirect = on_loopback(listener.port);
        Ok(Self { redirect, nonce, listener: Some(listener), arrival: None })
    }

    /// Opens the consent page, and waits for the code.
    pub(super) async fn ask(
        &mut self,
        base: &url::Url,
        app: &OAuthApp,
        options: &Options,
        terminal: &mut Terminal,
    ) -> Result<Secret, Error> {
        let url = consent_url(base, &app.client_id, &self.redirect, &options.scopes, &self.nonce);
        say(&format!("The app must have this redirect URL: {}", self.redirect));
        say(&format!("Open this page, choose the account and agree:\n\n  {url}\n"));
        if options.no_browser {
            let pasted =
                terminal.secret("URL that the browser ended up at, or the code in it").await?;
            return self.pasted(&pasted);
        }
        if !open(url.as_str()) {
            say("No browser could be opened from here; open the page yourself.");
            say("On a machine without a browser, use --no-browser.");
        }
        self.awaited(options).await
    }

    /// Waits for the browser to come back with the code.
    async fn awaited(&mut self, options: &Options) -> Result<Secret, Error> {
        let until = Instant::now() + options.wait;
        let Some(listener) = &mut self.listener else { return Err(self.late(options)) };
        while let Some(arrival) = listener.next(until).await {
            match arrival.redirect.clone().evaluate(&self.nonce) {
                Answer::Foreign => {
                    say("A browser came back with the answer to another login; still waiting.");
                    let text = "It has not the state that leadsd sent. Use the newest page that \
                                leadsd login has opened or printed.";
                    arrival.reply(Page::new(Kind::Error, "Not the answer to this login", text));
                }
                Answer::Refused => {
                    let text = "Access was not granted. Nothing was stored.";
                    arrival.reply(Page::new(Kind::ApiError, "Not connected", text));
                    return Err(refusal().into());
                }
                answer @ (Answer::Code(_) | Answer::Error(..) | Answer::Empty) => {
                    self.arrival = Some(arrival);
                    return code(answer);
                }
            }
        }
        Err(self.late(options))
    }

    /// The code in a pasted text. A bare code carries no state to verify.
    fn pasted(&self, pasted: &Secret) -> Result<Secret, Error> {
        match Redirect::from_url(pasted.expose()) {
            None => Ok(pasted.clone()),
            Some(redirect) => code(redirect.evaluate(&self.nonce)),
        }
    }

    /// Sends the last page to the browser, if one waits, and releases the port.
    pub(super) async fn show(self, page: Page) {
        if let Some(arrival) = self.arrival {
            arrival.reply(page);
        }
        if let Some(listener) = self.listener {
            listener.close().await;
        }
    }

    fn late(&self, options: &Options) -> Error {
        let fix = format!(
            "run it once more; if HubSpot's page shows an error, check the client id, and that the \
             app has the redirect URL {} and the scopes {}",
            self.redirect,
            options.scopes.join(", ")
        );
        Remediation::new(format!("nobody came back from HubSpot within {:?}", options.wait), fix)
            .into()
    }
}

fn code(answer: Answer) -> Result<Secret, Error> {
    match answer {
        Answer::Code(code) => Ok(code),
        Answer::Refused => Err(refusal().into()),
        Answer::Error(code, text) => Err(Remediation::new(
            format!("HubSpot reports an error instead of a code: {code} {text}"),
            "check the app's scopes and redirect URLs, and whether the account may install it",
        )
        .into()),
        Answer::Foreign => Err(Remediation::new(
            "this URL is the answer to another login: its state is not the one that was sent",
            "use the page that this run of leadsd login has printed",
        )
        .into()),
        Answer::Empty => Err(Remediation::new(
            "there is no code in what came back",
            "copy the whole address of the page that the browser ended up at",
        )
        .into()),
    }
}

fn refusal() -> Remediation {
    Remediation::new(
        "access was refused on HubSpot's page; nothing was stored",
        "run leadsd login once more and agree; who agrees must be allowed to install apps (super \
         admin, or App Marketplace access)",
    )
}

fn port_error(port: u16, error: &io::Error) -> Remediation {
    let cause = format!("cannot listen on 127.0.0.1:{port}: {error}");
    let fix = "end what listens there, or choose another port with --redirect-port, and register \
               the redirect URL of that port with the app; --no-browser needs no port";
    Remediation::new(cause, fix)
}

/// Whether a program was started with the URL.
fn open(url: &str) -> bool {
    OPENERS.into_iter().any(|opener| {
        let mut command = Command::new(opener);
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    })
}
