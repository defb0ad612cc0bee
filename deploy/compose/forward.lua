-- Sends every series on to Pellucid, in one association, when it has been quiet for StableAge seconds.
-- What came from Pellucid itself is not sent back. When slices come late, Orthanc calls again and the series is sent
-- again; Pellucid knows what it has.

local MODALITY = 'pellucid' -- its name in DicomModalities
local AE_TITLE = 'PELLUCID'
local WANTED = { CT = true, OP = true, XC = true, SR = true, SEG = true, RTSTRUCT = true }

function OnStableSeries(series, tags, metadata)
  if metadata['RemoteAET'] == AE_TITLE or not WANTED[tags['Modality']] then
    return
  end
  local order = DumpJson({ Resources = { series }, Asynchronous = true })
  RestApiPost('/modalities/' .. MODALITY .. '/store', order)
end

-- Pellucid may be down for a while: what failed is tried again, for ever. Orthanc keeps the orders over a restart.
function OnHeartBeat()
  for _, job in ipairs(ParseJson(RestApiGet('/jobs?expand'))) do
    if job['Type'] == 'DicomModalityStore' and job['State'] == 'Failure' and job['Content']['RemoteAet'] == AE_TITLE then
      RestApiPost('/jobs/' .. job['ID'] .. '/resubmit', '')
    end
  end
end
