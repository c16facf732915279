//! Labels and e-mail addresses in place of ids.

use tonic::Code;

use crate::{
    Done, Walk, fails,
    pb::{self, GetLeadRequest},
    properties,
};

impl Walk {
    /// Writes and reads a lead by labels and e-mail addresses, without ids.
    pub(crate) async fn names(&mut self) -> Done {
        let (stage, owner) = ("hs_pipeline_stage", "hubspot_owner_id");
        let name = format!("By names of {}", self.word);
        let email = pb::contact_reference::Key::Email(self.email.clone());
        let mut request = pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", &name)]),
            labels: properties(&[(stage, "conected"), (owner, &self.owner)]),
            contact: Some(pb::ContactReference { key: Some(email), ..Default::default() }),
            validate_only: true,
            ..Default::default()
        };
        // Validation writes nothing. A violation names the field and the nearest label.
        let refused = self.leads.create_lead(request.clone()).await;
        let failure = fails(refused, Code::InvalidArgument, "INVALID_REQUEST")?;
        let named = failure.fields.iter().any(|field| {
            field.field == r#"labels["hs_pipeline_stage"]"#
                && field.description.contains("connected")
        });
        check!(named && failure.fields.len() == 1, "the wrong fields: {failure}");
        request.labels.insert(stage.to_owned(), "connected".to_owned());
        let valid = self.leads.create_lead(request.clone()).await?.into_inner();
        check!(valid.lead.is_none(), "the validation wrote a lead: {valid:?}");
        request.validate_only = false;
        request.request_id = format!("{:032x}", rand::random::<u128>());
        let written = self.leads.create_lead(request).await?.into_inner();
        let id = written.lead.unwrap_or_default().id;

        let request = GetLeadRequest {
            id: id.clone(),
            properties: vec![stage.to_owned(), owner.to_owned()],
            display: true,
            ..Default::default()
        };
        let lead = self.leads.get_lead(request).await?.into_inner().lead.unwrap_or_default();
        let expected = properties(&[(stage, "connected"), (owner, &self.owner)]);
        check!(lead.labels == expected, "other labels: {lead:?}");
        // The contact that the address named is the primary one. Associating it again has no effect.
        let request = pb::AssociateLeadRequest {
            lead_id: id.clone(),
            object_type: "contacts".to_owned(),
            to_id: self.contact.clone(),
            type_labels: vec!["Primary".to_owned()],
            ..Default::default()
        };
        self.leads.associate_lead(request).await?;
        let request = pb::ListLeadAssociationsRequest {
            lead_id: id.clone(),
            object_type: "contacts".to_owned(),
            ..Default::default()
        };
        let page = self.leads.list_lead_associations(request).await?.into_inner();
        let is_ours = |to: &pb::AssociatedObject| to.id == self.contact && to.label == "Primary";
        check!(page.objects.iter().any(is_ours), "another contact: {page:?}");
        println!("created {id} by names: {:?}", lead.labels);
        Ok(())
    }
}
