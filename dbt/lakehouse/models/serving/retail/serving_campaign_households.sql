{{ serving_unified('campaign_households') }}
