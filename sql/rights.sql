-- Who may call and read what. Last, because it names everything. Default privileges of the database may have granted
-- more than CREATE FUNCTION and CREATE TABLE do, so all is revoked first.

revoke all on all routines in schema campfire from public, anon, authenticated, service_role, campfire_relay, campfire_sender;
revoke all on all tables in schema campfire from public, anon, authenticated, service_role, campfire_relay, campfire_sender;

-- Pure functions, and functions that tell what the catalogs tell anyway.
grant execute on function
  campfire.channel_organization(uuid),
  campfire.channel_conversation(uuid, uuid),
  campfire.channel_conversations(uuid),
  campfire.channel_widget(uuid, uuid),
  campfire.parse_channel(text),
  campfire.message_id(uuid, uuid),
  campfire.is_scalar(regtype),
  campfire.publishable_columns(regclass),
  campfire.qualified_name(regclass),
  campfire.replica_identity_columns(regclass),
  campfire.column_list(name, regclass),
  campfire.require_superuser(text)
to public;

grant select on campfire.help to public;

-- Each asks whether its caller owns the table, or does only what any owner could do by himself.
grant select on campfire.projections to public;
grant execute on routine
  campfire.create_projection(regclass, text[], integer),
  campfire.repair_projection(regclass, bigint, integer),
  campfire.verify_projection(regclass),
  campfire.drop_projection(regclass, boolean),
  campfire.mend_projection(regclass, boolean),
  campfire.alter_projection(regclass, text[], text, integer),
  campfire.choose_dropped_partitions(regclass, text),
  campfire.change_projection(regclass, text[]),
  campfire.carry_old_rows(regclass, integer, bigint),
  campfire.default_projection(regclass),
  campfire.projected_type(regtype),
  campfire.type_without_length(regtype),
  campfire.projection_columns(regclass, text[]),
  campfire.query_as_owner(regclass, text),
  campfire.start_projection(regclass, text[]),
  campfire.backfill_batch(regclass, integer),
  campfire.require_no_transaction(text),
  campfire.require_projection(regclass),
  campfire.only_of(regclass),
  campfire.projection_query(regclass),
  campfire.projection_column_list(name[], text),
  campfire.difference_query(regclass),
  campfire.repair_keys(regclass, jsonb),
  campfire.partition_identity_fix(regclass, regclass),
  campfire.align_partitions(regclass, oid[])
to public;

-- What policies call as the role they hold for.
grant select on campfire.settings to public;
grant execute on function
  campfire.setting(text),
  campfire.claim_from_json(text, text),
  campfire.claim(text),
  campfire.uuid_or_null(text),
  campfire.claim_organization(),
  campfire.claim_conversation(),
  campfire.claim_subject(),
  campfire.topic()
to public;
-- And what triggers on realtime.messages ask about it, and functions of schema realtime say instead of failing.
grant execute on function campfire.obeys_realtime_policies(), campfire.warn_of_unsent(text, text, text, text) to public;
grant execute on function campfire.is_agent(regclass), campfire.agent_organization(regclass) to authenticated;

-- Server code.
grant execute on function campfire.broadcast(text, text, jsonb) to service_role, campfire_sender;

-- The relay.
grant select on
  campfire.installations,
  campfire.projections,
  campfire.routes,
  campfire.managed_publications,
  campfire.user_routes,
  campfire.builtin_tables,
  campfire.broadcast_keys
to campfire_relay;
grant select, insert, update, delete on campfire.slots to campfire_relay;
grant select on campfire.slot_events to campfire_relay, pg_monitor;
grant execute on function
  campfire.check(),
  campfire.unheard_routes(),
  campfire.policy_problems(),
  campfire.failing_policy(regclass, name, text),
  campfire.plan_as(oid, text),
  campfire.fails_alone(regclass, text),
  campfire.policy_mend(regclass, name, text, text),
  campfire.leftovers(),
  campfire.suggested_policy(text),
  campfire.public_channels_denied(),
  campfire.projection_column_list(name[], text),
  campfire.check_publication(name),
  campfire.check_projections(),
  campfire.publication_verdict(name),
  campfire.standard_tables(name, boolean),
  campfire.suggested_identity(regclass),
  campfire.generated_identity_fix(name, regclass, regclass, name),
  campfire.publishes_generated(name),
  campfire.publish_anew(name, regclass, text, name[]),
  campfire.builtin_table(regclass),
  campfire.filter_columns(name, regclass),
  campfire.publication_refusal(name),
  campfire.wal_level_problem(),
  campfire.installation_problems(name, boolean, name),
  campfire.hidden_from_relay(regclass),
  campfire.standard_column_type(name),
  campfire.moved_table(name, name, name, boolean),
  campfire.replaced_tables(),
  campfire.name_around(text, text, text),
  campfire.route_problems(),
  campfire.remade_route(bigint, text, name[], name[]),
  campfire.carried_columns(regclass),
  campfire.published_root(regclass),
  campfire.template_columns(text),
  campfire.unheard_columns(regclass, text),
  campfire.leaves_channel_open(text),
  campfire.logged_columns(regclass),
  campfire.has_supabase_api(),
  campfire.supabase_api_damage(),
  campfire.check_supabase_api(),
  campfire.require_supabase_api(),
  campfire.policies_table(),
  campfire.private_channels_probe(text, text[]),
  campfire.realtime_probe(text, text[]),
  campfire.realtime_history(text, timestamptz, integer),
  campfire.maintain_supabase_api()
to campfire_relay;

-- CREATE EXTENSION hides notices of its script.
set local client_min_messages = notice;
do $$
begin
  raise notice 'campfire is ready; next: select campfire.install();';
end
$$;
