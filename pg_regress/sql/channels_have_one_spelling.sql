\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\set org '\'00000000-0000-4000-8000-00000000000A\''
\set conv '\'00000000-0000-4000-8000-0000000000C1\''
select campfire.channel_organization(:org);
select campfire.channel_conversation(:org, :conv);
select campfire.channel_conversations(:org);
select campfire.channel_widget(:org, :conv);
select channel, p.* from (values
  (campfire.channel_organization(:org)), (campfire.channel_conversation(:org, :conv)),
  (campfire.channel_conversations(:org)), (campfire.channel_widget(:org, :conv))) as c (channel),
  campfire.parse_channel('bcast:' || channel) as p;
select campfire.channel_conversation(:org, null) is null as null_in_null_out;
